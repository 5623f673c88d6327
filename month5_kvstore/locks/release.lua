-- KEYS: the lock. ARGV: grip. Returns 1, or 0 where this grip is gone: a successor stays.
if redis.call('HGET', KEYS[1], 'grip') ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
