-- KEYS[i]: a key. ARGV[2i-1]: the entry's bytes (kind 1 byte, version 16 digits, the rest).
-- ARGV[2i]: lifetime in milliseconds. ARGV[2n+1]: a channel that hears of every key, or ''.
-- Returns per key 1 (stored) or 0 (a newer entry stands).
-- The rule is `may_replace` of entries.py, here because compare and store must be one step.
-- A write is announced also when it is not stored: somebody was quicker, others may not know yet.
local outcomes = {}
local channel = ARGV[2 * #KEYS + 1]
for i, key in ipairs(KEYS) do
  local candidate = ARGV[2 * i - 1]
  local version = tonumber(string.sub(candidate, 2, 17))
  local standing = tonumber(string.sub(redis.call('GETRANGE', key, 1, 16), 1, 16))
  local stored
  if not standing then
    stored = true
  elseif string.sub(candidate, 1, 1) == 'F' then
    stored = version > standing
  else
    stored = version >= standing
  end
  if stored then
    redis.call('SET', key, candidate, 'PX', ARGV[2 * i])
  end
  if channel ~= '' then
    redis.call('PUBLISH', channel, string.sub(candidate, 2, 17) .. key)
  end
  outcomes[i] = stored and 1 or 0
end
return outcomes
