-- KEYS: the lock. ARGV: grip, lifetime in milliseconds. Returns 1, or 0 where this grip is gone.
if redis.call('HGET', KEYS[1], 'grip') ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
