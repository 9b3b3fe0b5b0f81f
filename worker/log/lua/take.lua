-- Take the lease of one cursor and leave an open mark (rule 4). The wake-up flag goes first, even when the lease is
-- busy (rule 10): the hint is consumed, and whoever holds the lease re-checks when it lets go.
-- ARGV: generation, store, token, connection, number of fenced tokens, the fenced tokens ..., the waived tokens ...
--   fenced: drains nobody runs any more and whose bytes surely cannot land; they are settled here and now
--   waived: drains whose bytes may still land; their marks stay for the sweeper
-- Returns {'busy'} | {'idle'} | {'behind'} (entries after the cursor are trimmed) | {'orphans', token, connection, ...} (fence them, then take again)
--       | {'taken', position, epoch}
local generation, store, token, connection = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local cursor, open = cursor_key(generation, store), open_key(generation, store)
redis.call('HSET', cursor, 'woken', '0')
if lease(cursor) ~= '' then return {'busy'} end

local waived = {}
for i = 6, 5 + tonumber(ARGV[5]) do rewind_mark(generation, store, ARGV[i]) end
for i = 6 + tonumber(ARGV[5]), #ARGV do waived[ARGV[i]] = true end
local orphans, marks = {'orphans'}, redis.call('HGETALL', open)
for i = 1, #marks, 2 do
  if not waived[marks[i]] then
    orphans[#orphans + 1] = marks[i]
    orphans[#orphans + 1] = string.match(marks[i + 1], '^%S+ %S+ %S+ (.*)$')
  end
end
if #orphans > 1 then return orphans end

local began = position(cursor)
if after(trimmed(generation), began) then return {'behind'} end
if not after(last(generation), began) then return {'idle'} end
local batches = redis.call('HGET', cursor, 'batches') or '0'
local bytes = redis.call('HGET', cursor, 'bytes') or '0'
redis.call('HSET', cursor, 'lease', token, 'beat', '1')
redis.call('HSET', open, token, began .. ' ' .. batches .. ' ' .. bytes .. ' ' .. connection)
return {'taken', began, epoch(cursor)}
