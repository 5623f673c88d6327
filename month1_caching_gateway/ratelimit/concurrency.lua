-- Leases, many steps in one call. Times: seconds on this server's clock.
-- KEYS[i]: sorted set of lease ids by expires_at_s. ARGV: acquire|release, id, slots, lease_s, for each
-- key.
-- Returns, for each key: admitted (0|1) or was held (0|1), slots left, retry_after_s. The rules are
-- those of concurrency.py.
local time = redis.call('TIME')
local now_s = tonumber(time[1]) + tonumber(time[2]) / 1000000
local answers = {}
local width = #ARGV > 4 and 4 or 0

for i, key in ipairs(KEYS) do
  local step = ARGV[width * (i - 1) + 1]
  local id = ARGV[width * (i - 1) + 2]
  local slots = tonumber(ARGV[width * (i - 1) + 3])
  local lease_s = tonumber(ARGV[width * (i - 1) + 4])

  redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.17g', now_s))
  local yes, wait_s
  if step == 'release' then
    yes, wait_s = redis.call('ZREM', key, id) == 1, 0
  else
    yes = redis.call('ZSCORE', key, id) ~= false or redis.call('ZCARD', key) < slots
    if yes then
      wait_s = 0
      redis.call('ZADD', key, string.format('%.17g', now_s + lease_s), id)
      local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
      -- When the last lease has ended, the key is the same as none. One second more, for rounding.
      local left_ms = math.ceil((tonumber(last[2]) - now_s) * 1000) + 1000
      redis.call('PEXPIRE', key, string.format('%.0f', left_ms))
    else
      local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
      wait_s = tonumber(first[2]) - now_s
    end
  end

  answers[3 * i - 2] = yes and 1 or 0
  answers[3 * i - 1] = string.format('%.17g', math.max(0, slots - redis.call('ZCARD', key)))
  answers[3 * i] = string.format('%.17g', wait_s)
end

return answers
