-- Append one batch to its segment's log (rule 1): create the segment or refuse the context kind, de-duplicate, stamp.
-- ARGV: batch_id, context_kind, integration_key, cohort_id, name, url, payload_id ('' if the entry holds the body),
--       not_after (ms of this server's clock: later than that, somebody was told that it failed),
--       rejected (how many members were left out: then the entry is listed), n, n entry fields and values, then the
--       store ids of the environment
-- Returns {'expired'} | {'taken'} (the key is another cohort's) | {'kind', existing kind} | {'duplicate', generation, store ids due ...}
--       | {'appended', generation, store ids due ...}
local batch_id, kind, integration, cohort, name, url, payload_id, not_after =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])
local rejected, fields = tonumber(ARGV[9]), tonumber(ARGV[10])

local time = now_ms()
local now, minute_ago = string.format('%.0f', time), string.format('%.0f', time - 60000)
if time > not_after then return {'expired'} end

local refused = refusal(kind, integration, cohort, true)
if refused then return refused end
local generation = redis.call('HGET', segment_key, 'generation')

local recent = base .. ':g' .. generation .. ':recent'
if redis.call('ZSCORE', recent, batch_id) then
  -- The reply of the first try was lost, and with it the wake-up that it claimed: say again what is due.
  local reply = {'duplicate', generation}
  for i = 11 + fields, #ARGV do
    local cursor = cursor_key(generation, ARGV[i])
    if lease(cursor) == '' and after(last(generation), position(cursor)) then reply[#reply + 1] = ARGV[i] end
  end
  return reply
end

local size, entry = 0, {}
for i = 11, 10 + fields do
  entry[#entry + 1] = ARGV[i]
  size = size + #ARGV[i]
end
local head = head_key(generation)
local batches = redis.call('HINCRBY', head, 'batches', 1)
local bytes = redis.call('HINCRBY', head, 'bytes', size)
-- The stream alone would do for the next id, if the last entry were always in it: a replayed one may lie beside it.
local wanted, last_ms, last_seq = '*', string.match(last(generation), '^(%d+)%-(%d+)$')
if tonumber(last_ms) >= time then wanted = last_ms .. '-' .. string.format('%.0f', tonumber(last_seq) + 1) end
local id = redis.call('XADD', log_key(generation), wanted, 'b', batch_id,
  'n', string.format('%.0f', batches), 's', string.format('%.0f', bytes), unpack(entry))
redis.call('HSET', head, 'last', id)

local accepted = string.match(id, '^(%d+)')
redis.call('HSET', segment_key, 'accepted_ms', accepted)
if name ~= '' then redis.call('HSET', segment_key, 'name', name) end
if url ~= '' then redis.call('HSET', segment_key, 'url', url) end
if payload_id ~= '' then redis.call('ZADD', base .. ':g' .. generation .. ':refs', batches, payload_id) end
if rejected > 0 then redis.call('ZADD', base .. ':g' .. generation .. ':rejected', batches, id) end

-- Only now that the entry is there: a try that failed halfway must not make the next one a duplicate.
redis.call('ZADD', recent, now, batch_id)
redis.call('ZREMRANGEBYSCORE', recent, '-inf', minute_ago)
redis.call('PEXPIRE', recent, 120000)

local reply = {'appended', generation}
for i = 11 + fields, #ARGV do
  if arm(generation, ARGV[i]) == 1 then reply[#reply + 1] = ARGV[i] end
end
return reply
