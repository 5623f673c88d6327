-- KEYS: the lock, its counter. ARGV: grip, holder, lifetime in milliseconds.
-- Returns the token of this grip's hold, or 0 while somebody else has the lock.
-- A grip that holds already is told its token again: the answer to its first try was lost.
-- The counter has no lifetime: it must outlive every hold, and must not be evicted.
local held = redis.call('HMGET', KEYS[1], 'grip', 'token')
if held[1] == ARGV[1] then
  return tonumber(held[2])
end
if held[1] then
  return 0
end
local token = redis.call('INCR', KEYS[2])
redis.call('HSET', KEYS[1], 'grip', ARGV[1], 'holder', ARGV[2], 'token', token)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return token
