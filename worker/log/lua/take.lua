-- Take the lease of one cursor and leave an open mark (rule 4). The wake-up flag goes first, even when the lease is
-- busy (rule 10): the hint is consumed, and whoever holds the lease re-checks when it lets go.
-- ARGV: generation, store, token, connection, incarnation of the store, process of the store ('' if it does not tell),
--   '1' to compare the store, and be given the lease though nothing waits, number of fenced tokens, the fenced tokens ..., the waived tokens ...
--   fenced: drains nobody runs any more and whose bytes surely cannot land; they are settled here and now
--   waived: drains whose bytes may still land; their marks stay for the sweeper
-- Returns {'busy'} | {'idle'} | {'orphans', token, connection, ...} (fence them, then take again)
--   | {'taken', position, epoch, '1' if the last drain's lease expired, token of the snapshot of which chunks were
--      applied, how many, integration key, '1' if there was a drain before, token of the snapshot that the store is
--      being filled with from the beginning}
local generation, store, token, connection, incarnation, process =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local cursor, open = cursor_key(generation, store), open_key(generation, store)
-- Of a deleted generation that every store has emptied, nothing is left, and nothing begins anew.
if last(generation) == '0-0' and not lives(generation) then return {'idle'} end
redis.call('HSET', cursor, 'woken', '0')
if lease(cursor) ~= '' then return {'busy'} end

local waived, fenced = {}, tonumber(ARGV[8])
for i = 9, 8 + fenced do rewind_mark(generation, store, ARGV[i]) end
for i = 9 + fenced, #ARGV do waived[ARGV[i]] = true end
local orphans, marks = {'orphans'}, redis.call('HGETALL', open)
for i = 1, #marks, 2 do
  if not waived[marks[i]] then
    orphans[#orphans + 1] = marks[i]
    orphans[#orphans + 1] = string.match(marks[i + 1], '^%S+ %S+ %S+ (.*)$')
  end
end
if #orphans > 1 then return orphans end

-- Rule 12: made for another life of the store, a cursor says nothing about this one.
local made_for = redis.call('HMGET', cursor, 'incarnation', 'process')
if made_for[1] and made_for[1] ~= incarnation then
  rewind_cursor(cursor, '0-0', '0', '0')
  redis.call('HDEL', cursor, 'past', 'recent', 'rotated_ms', 'drained', 'filling')
  inexact(generation)
-- Rule 13: another process, or another primary, may have lost what the last one answered a while ago.
elseif made_for[2] and made_for[2] ~= process and process ~= '' then
  rewind_cursor(cursor, trail(cursor))
  inexact(generation)
end
redis.call('HSET', cursor, 'incarnation', incarnation)
redis.call('SADD', stores_key(generation), store)
if process ~= '' then redis.call('HSET', cursor, 'process', process) end

-- A store that has never had anything of a deleted generation has nothing to give up. One that had in another life may:
-- it came back from a backup, or a drain at work has written to it since that life ended.
if not made_for[1] and position(cursor) == '0-0' and not lives(generation) then
  local ended = redis.call('HMGET', head_key(generation), 'last', 'batches', 'bytes')
  redis.call('HSET', cursor, 'position', ended[1], 'batches', ended[2] or '0', 'bytes', ended[3] or '0')
  return {'idle'}
end

local began = position(cursor)
if ARGV[7] ~= '1' and not after(last(generation), began) then return {'idle'} end
local known = redis.call('HMGET', cursor, 'batches', 'bytes', 'suspect', 'base', 'base_chunks', 'drained', 'filling')
redis.call('HSET', cursor, 'lease', token, 'beat', '1', 'drained', '1')
-- Who compares may take anybody out: if that lands late, everything is to be folded again.
local mark = began .. ' ' .. (known[1] or '0') .. ' ' .. (known[2] or '0')
if ARGV[7] == '1' then mark = '0-0 0 0' end
redis.call('HSET', open, token, mark .. ' ' .. connection)
return {'taken', began, epoch(cursor), known[3] or '', known[4] or '', known[5] or '0',
  redis.call('HGET', segment_key, 'integration_key') or '', known[6] or '', known[7] or ''}
