-- Replay (rule 17): put an entry at a position of its own, beside the stream, and take every cursor back to just before
-- it, so that the ordinary fold lets later batches decide. Doing it again changes nothing.
-- ARGV: generation, position, batch id, '1' when the entry is the dead one at that very position, n, n entry fields and
--       values, then the store ids of the environment
-- Returns {'gone'} (another generation lives) | {'below'} (nobody knows any more who was decided since) | {'not dead'}
--   | {'taken'} (another batch lies there) | {'inserted', store ids due ...}
local generation, id, batch_id, of_dead, fields = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', tonumber(ARGV[5])
if not lives(generation) then return {'gone'} end
-- What was accepted before the segment was deleted is not to come back in the generation after it.
local deleted = redis.call('HGET', segment_key, 'deleted_ms')
if not of_dead and deleted and tonumber(ms_of(id)) <= tonumber(deleted) then return {'gone'} end
local floor = redis.call('HGET', head_key(generation), 'floor')
if floor and after(floor, id) then return {'below'} end
local key = late_entry_key(generation, id)
local there = redis.call('HGET', key, 'b')
if of_dead then
  local decided = redis.call('HGET', dead_key(generation), id)
  if not decided or string.sub(decided, 1, #DEAD) ~= DEAD then return {'not dead'} end
elseif there then
  return {there == batch_id and 'not dead' or 'taken'}
end

-- Totals are those of the entry before it: the lag of a store is counted by the stream, and by what lies beside it.
local past = redis.call('XREVRANGE', log_key(generation), of_dead and id or '(' .. id, '-', 'COUNT', 1)[1]
local batches, bytes = '0', '0'
if past then
  for i = 1, #past[2], 2 do
    if past[2][i] == 'n' then batches = past[2][i + 1] elseif past[2][i] == 's' then bytes = past[2][i + 1] end
  end
else
  local totals = redis.call('HMGET', head_key(generation), 'trimmed_batches', 'trimmed_bytes')
  batches, bytes = totals[1] or '0', totals[2] or '0'
end
redis.call('DEL', key)
redis.call('HSET', key, 'b', batch_id, 'n', batches, 's', bytes, unpack(ARGV, 6, 5 + fields))
redis.call('ZADD', late_key(generation), ms_of(id), id)
if redis.call('HEXISTS', key, 'x') == 1 then
  redis.call('ZADD', base .. ':g' .. generation .. ':rejected', batches, id)
end
redis.call('HDEL', dead_key(generation), id)
redis.call('HDEL', base .. ':g' .. generation .. ':crashes', id)
if not of_dead then redis.call('HINCRBY', head_key(generation), 'inserted', 1) end
if after(id, last(generation)) then redis.call('HSET', head_key(generation), 'last', id) end
redis.call('HSET', segment_key, 'members_exact', '0')

-- Also of stores that the caller does not know of yet.
local reply, stores = {'inserted'}, redis.call('SMEMBERS', stores_key(generation))
for i = 1, #stores do rewind_cursor(cursor_key(generation, stores[i]), before(id), batches, bytes) end
for i = 6 + fields, #ARGV do
  if arm(generation, ARGV[i]) == 1 then reply[#reply + 1] = ARGV[i] end
end
return reply
