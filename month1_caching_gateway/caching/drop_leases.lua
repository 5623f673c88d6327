-- KEYS[i]: a lease. ARGV[1]: the holder's token. Drops what is still this holder's; returns how many.
-- One step, because between GET and DEL the lease could lapse and become somebody else's.
local dropped = 0
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then
    dropped = dropped + redis.call('DEL', key)
  end
end
return dropped
