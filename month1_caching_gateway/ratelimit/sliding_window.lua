-- Sliding window counters, many in one call. Times: seconds on this server's clock. Amounts: requests.
-- KEYS[i]: hash {c = current, p = previous, at = began_s}. ARGV: capacity, rate_per_s, cost, for
-- each key, or once for all.
-- Returns, for each key: admitted (0|1), remaining, retry_after_s. The arithmetic is that of
-- sliding_window.py.
local time = redis.call('TIME')
local now_s = tonumber(time[1]) + tonumber(time[2]) / 1000000
local answers = {}
local step = #ARGV > 3 and 3 or 0

local function room_at_s(current, previous, began_s, window_s, free)
  if current <= free and previous > 0 then
    return began_s + (1 - (free - current) / previous) * window_s
  end
  if current <= 0 then
    return began_s + window_s
  end
  return began_s + window_s + math.max(0, 1 - free / current) * window_s
end

for i, key in ipairs(KEYS) do
  local capacity = tonumber(ARGV[step * (i - 1) + 1])
  local rate_per_s = tonumber(ARGV[step * (i - 1) + 2])
  local cost = tonumber(ARGV[step * (i - 1) + 3])
  local window_s = capacity / rate_per_s
  local began_s = math.floor(now_s / window_s) * window_s

  local stored = redis.call('HMGET', key, 'c', 'p', 'at')
  local current, previous = 0, 0
  if stored[3] then
    local behind_s = began_s - tonumber(stored[3])
    if behind_s <= 0 then
      current, previous, began_s = tonumber(stored[1]), tonumber(stored[2]), tonumber(stored[3])
    elseif behind_s < 1.5 * window_s then
      previous = tonumber(stored[1])
    end
  end

  local passed = math.min(1, math.max(0, now_s - began_s) / window_s)
  local weighed = previous * (1 - passed) + current
  local admitted = weighed + cost <= capacity
  local remaining, wait_s
  if admitted then
    remaining, wait_s = math.max(0, capacity - weighed - cost), 0
    redis.call('HSET', key, 'c', string.format('%.17g', current + cost),
      'p', string.format('%.17g', previous), 'at', string.format('%.17g', began_s))
    -- The count weighs until the end of the next window. One second more, for rounding.
    local left_ms = math.ceil((began_s + 2 * window_s - now_s) * 1000) + 1000
    redis.call('PEXPIRE', key, string.format('%.0f', left_ms))
  else
    remaining = math.max(0, capacity - weighed)
    wait_s = math.max(0.000001, room_at_s(current, previous, began_s, window_s, capacity - cost) - now_s)
  end

  answers[3 * i - 2] = admitted and 1 or 0
  answers[3 * i - 1] = string.format('%.17g', remaining)
  answers[3 * i] = string.format('%.17g', wait_s)
end

return answers
