-- Shared by every script: keys from the base, and the order of stream ids. KEYS[1] is the base (append.lua sets
-- it anew for each of its batches).
local base = KEYS[1]
local segment_key = base .. ':segment'
local DEAD = '{"status":"dead"' -- how the record of an entry begins that may be replayed or discarded
local TRAIL_MS = 600000

local function log_key(generation) return base .. ':g' .. generation .. ':log' end
local function head_key(generation) return base .. ':g' .. generation .. ':head' end
local function dead_key(generation) return base .. ':g' .. generation .. ':dead' end
local function late_key(generation) return base .. ':g' .. generation .. ':late' end
local function late_entry_key(generation, id) return late_key(generation) .. ':' .. id end
local function snapshot_key(generation, token) return base .. ':g' .. generation .. ':snapshot:' .. token end
local function stores_key(generation) return base .. ':g' .. generation .. ':stores' end
local function cursor_key(generation, store) return base .. ':g' .. generation .. ':cursor:' .. store end
local function open_key(generation, store) return base .. ':g' .. generation .. ':open:' .. store end

local function imports_key(generation) return base .. ':g' .. generation .. ':imports' end
local function import_key(generation, id) return base .. ':g' .. generation .. ':import:' .. id end

local function after(a, b) -- is stream id a later than stream id b?
  local a_ms, a_seq = string.match(a, '^(%d+)%-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)%-(%d+)$')
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  if a_ms ~= b_ms then return a_ms > b_ms end
  return tonumber(a_seq) > tonumber(b_seq)
end

local function ms_of(id) return string.match(id, '^(%d+)') end

-- Just below an id, and above every other id below it. Sequence numbers stay within what a Lua number can hold.
local function before(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  if seq ~= '0' then return ms .. '-' .. string.format('%.0f', tonumber(seq) - 1) end
  if ms == '0' then return '0-0' end
  return string.format('%.0f', tonumber(ms) - 1) .. '-9007199254740991'
end

local function now_ms() -- the server's clock
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The first entry after a position that lies beside the stream: replayed at its own place, or dead and left behind by
-- a trim; nil if there is none. Within a millisecond the index knows no order, so all of it are looked at.
local function next_late(generation, from)
  local key, offset, best = late_key(generation), 0, nil
  while true do
    local found = redis.call('ZRANGEBYSCORE', key, ms_of(from), '+inf', 'LIMIT', offset, 16)
    for i = 1, #found do
      if after(found[i], from) then
        if not best or (ms_of(best) == ms_of(found[i]) and after(best, found[i])) then
          best = found[i]
        elseif ms_of(best) ~= ms_of(found[i]) then
          return best
        end
      end
    end
    if #found < 16 then return best end
    offset = offset + 16
  end
end

-- Of an entry beside the stream, what a fold reads; never the body that is there beside a slice, which may be large.
local READ = {'b', 'n', 's', 'v', 'i', 'm', 'e', 'k', 'r', 'c', 'p'}
local function late_fields(generation, id)
  local values, fields = redis.call('HMGET', late_entry_key(generation, id), unpack(READ)), {}
  for i = 1, #READ do
    if values[i] then fields[#fields + 1], fields[#fields + 2] = READ[i], values[i] end
  end
  return fields
end

local function position(cursor) return redis.call('HGET', cursor, 'position') or '0-0' end
local function last(generation) return redis.call('HGET', head_key(generation), 'last') or '0-0' end
local function trimmed(generation) return redis.call('HGET', head_key(generation), 'trimmed') or '0-0' end
local function lease(cursor) return redis.call('HGET', cursor, 'lease') or '' end
local function epoch(cursor) return redis.call('HGET', cursor, 'epoch') or '0' end

-- Rule 13: how far a store may be behind its cursor that another process answers for since: position, batches, bytes of
-- ten minutes ago at least.
local function trail(cursor)
  return string.match(redis.call('HGET', cursor, 'past') or '0-0 0 0', '^(%S+) (%S+) (%S+)$')
end

-- Whether this generation is the segment: what is still done to one that was deleted must not show in the next.
local function lives(generation)
  local known = redis.call('HMGET', segment_key, 'generation', 'context_kind')
  return known[1] == generation and known[2] ~= false
end

-- Rule 22: members of either list may have changed without being counted.
local function inexact(generation)
  if lives(generation) then redis.call('HSET', segment_key, 'members_exact', '0') end
end

-- What one store's replies say of a write: by how much the two lists have changed; '' where another store counts.
local function count_in(generation, members, excluded)
  if members == '' or not lives(generation) then return end
  redis.call('HINCRBY', segment_key, 'members', members)
  if excluded ~= '0' then redis.call('HINCRBY', segment_key, 'excluded', excluded) end
end

-- A wake-up is due when the log is ahead, nobody drains it and none is outstanding. Claims it.
local function arm(generation, store)
  local cursor = cursor_key(generation, store)
  local known = redis.call('HMGET', cursor, 'lease', 'woken', 'position')
  if known[1] and known[1] ~= '' then return 0 end
  if known[2] == '1' then return 0 end
  if not after(last(generation), known[3] or '0-0') then return 0 end
  redis.call('HSET', cursor, 'woken', '1')
  return 1
end

-- Put the cursor back, if it is beyond; what was applied of a base is forgotten, and every drain in progress is told.
-- Its trail goes back with it: what is applied again may be lost again.
local function rewind_cursor(cursor, to, batches, bytes)
  if after(position(cursor), to) then
    redis.call('HSET', cursor, 'position', to, 'batches', batches, 'bytes', bytes)
  end
  for _, name in ipairs({'past', 'recent'}) do
    local there = redis.call('HGET', cursor, name)
    if there and after(string.match(there, '^(%S+)'), to) then
      redis.call('HSET', cursor, name, to .. ' ' .. batches .. ' ' .. bytes)
    end
  end
  redis.call('HDEL', cursor, 'base', 'base_chunks')
  redis.call('HINCRBY', cursor, 'epoch', 1)
end

-- Rule 6: the cursor goes back to where that drain began, the epoch tells every drain in progress, the mark goes.
local function rewind_mark(generation, store, token)
  local open = open_key(generation, store)
  local mark = redis.call('HGET', open, token)
  if not mark then return 0 end
  local began, batches, bytes = string.match(mark, '^(%S+) (%S+) (%S+)')
  rewind_cursor(cursor_key(generation, store), began, batches, bytes)
  redis.call('HDEL', open, token)
  inexact(generation)
  return 1
end

-- What keeps a payload of this kind, for this cohort, from the segment; if nothing does, nil, its generation (nil while
-- it is absent), and what was known of it (6: its name, 7: its url). Creates it when it is absent and that is wanted.
local function refusal(kind, integration, cohort, create)
  local known = redis.call('HMGET', segment_key, 'context_kind', 'integration_key', 'cohort_id', 'moved_to',
    'generation', 'name', 'url')
  local generation = nil
  if known[1] then
    generation = known[5]
    if known[2] ~= integration or known[3] ~= cohort then return {'taken'} end
    if known[1] ~= kind then return {'kind', known[1]} end
  elseif known[4] then
    return {'taken'} -- its cohort has another key by now: whoever remembers this one must ask
  elseif create then
    generation = string.format('%.0f', redis.call('HINCRBY', segment_key, 'generation', 1))
    redis.call('HSET', segment_key, 'context_kind', kind, 'integration_key', integration, 'cohort_id', cohort,
      'created_ms', string.format('%.0f', now_ms()),
      'members', '0', 'excluded', '0', 'members_exact', '1')
  end
  return nil, generation, known
end
