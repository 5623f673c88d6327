-- GCRA meters, many in one call. Times: seconds on this server's clock. Amounts: requests.
-- KEYS[i]: the meter's hash {l = level, at = conformed_at_s}. ARGV: capacity, rate_per_s, cost, for
-- each key, or once for all.
-- Returns, for each key: admitted (0|1), remaining, retry_after_s. The arithmetic is that of gcra.py.
local time = redis.call('TIME')
local now_s = tonumber(time[1]) + tonumber(time[2]) / 1000000
local answers = {}
local step = #ARGV > 3 and 3 or 0

for i, key in ipairs(KEYS) do
  local capacity = tonumber(ARGV[step * (i - 1) + 1])
  local rate_per_s = tonumber(ARGV[step * (i - 1) + 2])
  local cost = tonumber(ARGV[step * (i - 1) + 3])

  local stored = redis.call('HMGET', key, 'l', 'at')
  local level = tonumber(stored[1] or 0)
  local conformed_at_s = tonumber(stored[2] or now_s)

  local elapsed_s = math.max(0, now_s - conformed_at_s)
  level = math.max(0, level - elapsed_s * rate_per_s)
  local admitted = level + cost <= capacity
  local wait_s = 0
  if admitted then
    level = level + cost
    redis.call('HSET', key, 'l', string.format('%.17g', level),
      'at', string.format('%.17g', math.max(now_s, conformed_at_s)))
    -- A dry meter is the same as none. One second more, for rounding.
    redis.call('PEXPIRE', key, string.format('%.0f', math.ceil(level / rate_per_s * 1000) + 1000))
  else
    wait_s = (level + cost - capacity) / rate_per_s
  end

  answers[3 * i - 2] = admitted and 1 or 0
  answers[3 * i - 1] = string.format('%.17g', capacity - level)
  answers[3 * i] = string.format('%.17g', wait_s)
end

return answers
