-- Fixed windows, many in one call. Times: seconds on this server's clock. Amounts: requests.
-- KEYS[i]: the window's hash {u = used, at = began_s}. ARGV: capacity, rate_per_s, cost, for
-- each key, or once for all.
-- Returns, for each key: admitted (0|1), remaining, retry_after_s. The arithmetic is that of
-- fixed_window.py.
local time = redis.call('TIME')
local now_s = tonumber(time[1]) + tonumber(time[2]) / 1000000
local answers = {}
local step = #ARGV > 3 and 3 or 0

for i, key in ipairs(KEYS) do
  local capacity = tonumber(ARGV[step * (i - 1) + 1])
  local rate_per_s = tonumber(ARGV[step * (i - 1) + 2])
  local cost = tonumber(ARGV[step * (i - 1) + 3])
  local window_s = capacity / rate_per_s
  local began_s = math.floor(now_s / window_s) * window_s

  local stored = redis.call('HMGET', key, 'u', 'at')
  local used = 0
  if stored[2] and tonumber(stored[2]) >= began_s then
    used = tonumber(stored[1])
    began_s = tonumber(stored[2])
  end

  local admitted = used + cost <= capacity
  local wait_s = 0
  if admitted then
    used = used + cost
    redis.call('HSET', key, 'u', string.format('%.17g', used), 'at', string.format('%.17g', began_s))
    -- The window means nothing after its end. One second more, for rounding.
    local left_ms = math.ceil((began_s + window_s - now_s) * 1000) + 1000
    redis.call('PEXPIRE', key, string.format('%.0f', left_ms))
  else
    wait_s = math.max(0.000001, began_s + window_s - now_s)
  end

  answers[3 * i - 2] = admitted and 1 or 0
  answers[3 * i - 1] = string.format('%.17g', capacity - used)
  answers[3 * i] = string.format('%.17g', wait_s)
end

return answers
