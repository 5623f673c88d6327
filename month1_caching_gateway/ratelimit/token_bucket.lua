-- Token buckets, many in one call. Times: seconds on this server's clock. Amounts: tokens.
-- KEYS[i]: the bucket's hash {t = tokens, at = refilled_at_s}. ARGV: capacity, rate_per_s, cost, for
-- each key, or once for all.
-- Returns, for each key: admitted (0|1), remaining, retry_after_s; the numbers as text, for Redis
-- would cut them to integers. The arithmetic is that of token_bucket.py, line by line; %.17g keeps
-- every bit of a double, where tostring() would keep 14 digits and lose the microseconds.
local time = redis.call('TIME')
local now_s = tonumber(time[1]) + tonumber(time[2]) / 1000000
local answers = {}
local step = #ARGV > 3 and 3 or 0

for i, key in ipairs(KEYS) do
  local capacity = tonumber(ARGV[step * (i - 1) + 1])
  local rate_per_s = tonumber(ARGV[step * (i - 1) + 2])
  local cost = tonumber(ARGV[step * (i - 1) + 3])

  local stored = redis.call('HMGET', key, 't', 'at')
  local tokens = tonumber(stored[1] or capacity)
  local refilled_at_s = tonumber(stored[2] or now_s)

  local elapsed_s = math.max(0, now_s - refilled_at_s)
  tokens = math.min(capacity, tokens + elapsed_s * rate_per_s)
  local admitted = tokens >= cost
  local wait_s = 0
  if admitted then
    tokens = tokens - cost
  else
    wait_s = (cost - tokens) / rate_per_s
  end

  redis.call('HSET', key, 't', string.format('%.17g', tokens),
    'at', string.format('%.17g', math.max(now_s, refilled_at_s)))
  -- A full bucket is the same as none: it may go once it would be full. One second more, for rounding.
  local full_after_ms = math.ceil((capacity - tokens) / rate_per_s * 1000) + 1000
  redis.call('PEXPIRE', key, string.format('%.0f', full_after_ms))

  answers[3 * i - 2] = admitted and 1 or 0
  answers[3 * i - 1] = string.format('%.17g', tokens)
  answers[3 * i] = string.format('%.17g', wait_s)
end

return answers
