-- What a compaction of this segment's log could fold into its snapshot, and what stands in its way. Reads only.
-- ARGV: generation ('' for the one that lives), horizon (an id: entries after it stay), limit (ms: a store whose oldest unapplied entry was accepted before it
--   lags too far to hold the log, rule 15), number of stores that may hold the log, these stores ..., the others ...
-- Returns {} (no such segment) | {generation, last, token of the snapshot, trimmed, floor, bytes, members and removed
--   members of the snapshot, the position that the most advanced store has reached, upto (the last position that may be
--   folded), bytes that may be folded, accept time of the first of these entries ('' if none), lowest position that an
--   entry may come back to life at, or waits to be folded at ('' if none), stores that hold the log ...}
local horizon, limit, candidates = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local generation = ARGV[1]
if generation == '' then generation = redis.call('HGET', segment_key, 'generation') end
if not generation or (not lives(generation) and (ARGV[1] == '' or last(generation) == '0-0')) then return {} end
local head = redis.call('HMGET', head_key(generation), 'last', 'snapshot', 'trimmed', 'floor', 'snapshot_bytes',
  'snapshot_members', 'snapshot_removed', 'trimmed_bytes')
local defaults = {'0-0', '', '0-0', '0-0', '0', '0', '0', '0'}
for i = 1, #defaults do head[i] = head[i] or defaults[i] end
local log, trim, dead = log_key(generation), head[3], dead_key(generation)

local function lags(at)
  if tonumber(ms_of(at)) >= limit then return false end
  if after(trim, at) then
    -- Who has come to just before an import misses nothing but that, however old what it has is.
    local before_import = redis.call('HGET', head_key(generation), 'before_import')
    return not before_import or after(before_import, at) or tonumber(ms_of(trim)) < limit
  end
  local oldest = redis.call('XRANGE', log, '(' .. at, '+', 'COUNT', 1)[1]
  return oldest and tonumber(ms_of(oldest[1])) < limit
end

local most, upto, holding = '0-0', horizon, {}
local function hold(at) if after(upto, at) then upto = at end end
for i = 5, #ARGV do
  local at = position(cursor_key(generation, ARGV[i]))
  if after(at, most) then most = at end
  if i < 5 + candidates and not lags(at) then
    holding[#holding + 1] = ARGV[i]
    hold(at)
    local marks = redis.call('HVALS', open_key(generation, ARGV[i]))
    for j = 1, #marks do hold(string.match(marks[j], '^(%S+)')) end
  end
end
hold(most)

local bytes, oldest = 0, ''
if after(upto, trim) then
  local first = redis.call('XRANGE', log, '-', upto, 'COUNT', 1)[1]
  if first then
    oldest = ms_of(first[1])
    local final = redis.call('XREVRANGE', log, upto, '-', 'COUNT', 1)[1]
    for i = 1, #final[2], 2 do
      if final[2][i] == 's' then bytes = tonumber(final[2][i + 1]) - tonumber(head[8]) end
    end
  end
end

-- Entries beside the stream: those that are live are still to be folded, and may be below what is trimmed.
local lowest = nil
local function note(id) if not lowest or after(lowest, id) then lowest = id end end
local late = redis.call('ZRANGE', late_key(generation), 0, -1)
for i = 1, #late do
  if redis.call('HEXISTS', dead, late[i]) == 0 then
    note(late[i])
    if not after(late[i], most) and not (after(late[i], trim) and after(late[i], upto)) then
      bytes = bytes + redis.call('HSTRLEN', late_entry_key(generation, late[i]), 'p')
      if oldest == '' or tonumber(ms_of(late[i])) < tonumber(oldest) then oldest = ms_of(late[i]) end
    end
  end
end
local records = redis.call('HGETALL', dead)
for i = 1, #records, 2 do
  if string.sub(records[i + 1], 1, #DEAD) == DEAD then note(records[i]) end
end
return {generation, head[1], head[2], trim, head[4], head[5], head[6], head[7], most, upto,
  string.format('%.0f', bytes), oldest, lowest or '', unpack(holding)}
