-- How far each store has applied this segment's log. Reads only.
-- ARGV: generation ('' for the one that lives; a deleted one has a log until every store is through it), then store id,
--   the store's present incarnation, the process that answers for it ('' if nobody knows these), until when at least
--   another one did (ms), store id, ...
-- Returns {generation ('0': it is not there), last, batches, bytes, integration key, trimmed, then per store: position,
--   batches, bytes, epoch, woken, lease, beat, incarnation, entries beside the stream after the position, oldest
--   unapplied accept time in ms ('' if none), number of marks, token, began, connection, ...}
local generation = ARGV[1]
if generation == '' then generation = redis.call('HGET', segment_key, 'generation') end
if not generation or (not lives(generation) and (ARGV[1] == '' or last(generation) == '0-0')) then return {'0'} end
local head = redis.call('HMGET', head_key(generation), 'last', 'batches', 'bytes')
local reply = {generation, head[1] or '0-0', head[2] or '0', head[3] or '0',
  redis.call('HGET', segment_key, 'integration_key') or '', trimmed(generation)}
local function add(value) reply[#reply + 1] = value end
for i = 2, #ARGV, 4 do
  local cursor = cursor_key(generation, ARGV[i])
  local found = redis.call('HMGET', cursor, 'position', 'batches', 'bytes', 'epoch', 'woken', 'lease', 'beat',
    'incarnation', 'process', 'advanced_ms')
  local defaults = {'0-0', '0', '0', '0', '0', '', '0', ''}
  -- Rule 12: a cursor that was made for another life of the store says nothing about this one.
  if found[8] and ARGV[i + 1] ~= '' and found[8] ~= ARGV[i + 1] then
    found[1], found[2], found[3] = nil, nil, nil
  -- Rule 13: what another process answered shortly before it was gone may be lost with it.
  elseif found[9] and ARGV[i + 2] ~= '' and found[9] ~= ARGV[i + 2]
    and tonumber(found[10] or '0') >= tonumber(ARGV[i + 3]) - TRAIL_MS then
    local to, batches, bytes = trail(cursor)
    if after(found[1] or '0-0', to) then found[1], found[2], found[3] = to, batches, bytes end
  end
  for j = 1, #defaults do add(found[j] or defaults[j]) end
  local ahead = after(reply[2], found[1] or '0-0')
  add(ahead and redis.call('ZCOUNT', late_key(generation), '(' .. ms_of(found[1] or '0-0'), '+inf') or 0)
  local marks = redis.call('HGETALL', open_key(generation, ARGV[i]))
  -- What a drain that is not over wrote may still be undone: freshness counts from where the earliest began.
  -- Not from that of the drain at work: it stands where the cursor does, unless that one only compares.
  local from = found[1] or '0-0'
  for j = 1, #marks, 2 do
    local began = string.match(marks[j + 1], '^(%S+)')
    if marks[j] ~= found[6] and after(from, began) then from = began end
  end
  local oldest, gone = '', trimmed(generation)
  if after(gone, from) then
    oldest = ms_of(from)
    local before_import = redis.call('HGET', head_key(generation), 'before_import')
    if before_import and not after(before_import, from) then
      local late = next_late(generation, from)
      oldest = ms_of((late and after(gone, late)) and late or gone)
    end
  elseif after(reply[2], from) then
    local entry = redis.call('XRANGE', log_key(generation), '(' .. from, '+', 'COUNT', 1)[1]
    local late = next_late(generation, from)
    if entry then oldest = ms_of(entry[1]) end
    if late and not (entry and after(late, entry[1])) then oldest = ms_of(late) end
  end
  add(oldest)
  add(#marks / 2)
  for j = 1, #marks, 2 do
    local began, connection = string.match(marks[j + 1], '^(%S+) %S+ %S+ (.*)$')
    add(marks[j]); add(began); add(connection)
  end
end
return reply
