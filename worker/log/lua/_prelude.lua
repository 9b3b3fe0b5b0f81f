-- Shared by every script: keys from the base, and the order of stream ids. KEYS[1] is always the base.
local base = KEYS[1]
local segment_key = base .. ':segment'

local function log_key(generation) return base .. ':g' .. generation .. ':log' end
local function head_key(generation) return base .. ':g' .. generation .. ':head' end
local function dead_key(generation) return base .. ':g' .. generation .. ':dead' end
local function cursor_key(generation, store) return base .. ':g' .. generation .. ':cursor:' .. store end
local function open_key(generation, store) return base .. ':g' .. generation .. ':open:' .. store end

local function after(a, b) -- is stream id a later than stream id b?
  local a_ms, a_seq = string.match(a, '^(%d+)%-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)%-(%d+)$')
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  if a_ms ~= b_ms then return a_ms > b_ms end
  return tonumber(a_seq) > tonumber(b_seq)
end

local function position(cursor) return redis.call('HGET', cursor, 'position') or '0-0' end
local function last(generation) return redis.call('HGET', head_key(generation), 'last') or '0-0' end
local function trimmed(generation) return redis.call('HGET', head_key(generation), 'trimmed') or '0-0' end
local function lease(cursor) return redis.call('HGET', cursor, 'lease') or '' end
local function epoch(cursor) return redis.call('HGET', cursor, 'epoch') or '0' end

-- A wake-up is due when the log is ahead, nobody drains it and none is outstanding. Claims it.
local function arm(generation, store)
  local cursor = cursor_key(generation, store)
  if lease(cursor) ~= '' then return 0 end
  if redis.call('HGET', cursor, 'woken') == '1' then return 0 end
  if not after(last(generation), position(cursor)) then return 0 end
  redis.call('HSET', cursor, 'woken', '1')
  return 1
end

-- Rule 6: the cursor goes back to where that drain began, the epoch tells every drain in progress, the mark goes.
local function rewind_mark(generation, store, token)
  local open = open_key(generation, store)
  local mark = redis.call('HGET', open, token)
  if not mark then return 0 end
  local cursor = cursor_key(generation, store)
  local began, batches, bytes = string.match(mark, '^(%S+) (%S+) (%S+)')
  if after(position(cursor), began) then
    redis.call('HSET', cursor, 'position', began, 'batches', batches, 'bytes', bytes)
  end
  redis.call('HINCRBY', cursor, 'epoch', 1)
  redis.call('HDEL', open, token)
  redis.call('HSET', segment_key, 'members_exact', '0')
  return 1
end

-- What keeps a payload of this kind, for this cohort, from the segment; nil if nothing does. Creates the segment when
-- it is absent and that is wanted.
local function refusal(kind, integration, cohort, create)
  local known = redis.call('HMGET', segment_key, 'context_kind', 'integration_key', 'cohort_id')
  if known[1] then
    if known[2] ~= integration or known[3] ~= cohort then return {'taken'} end
    if known[1] ~= kind then return {'kind', known[1]} end
  elseif create then
    local time = redis.call('TIME')
    redis.call('HINCRBY', segment_key, 'generation', 1)
    redis.call('HSET', segment_key, 'context_kind', kind, 'integration_key', integration, 'cohort_id', cohort,
      'created_ms', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)),
      'members', '0', 'members_exact', '1')
  end
  return nil
end
