-- Forget a store that was removed: its cursors and open marks go, in the present generation and in deleted ones.
-- ARGV: store, counted ('1' if its replies counted members: the store that counts from now on had applied more or less),
--   the deleted generations that are not closed ... (their numbers have gaps, which may be wide)
-- Returns the number of keys deleted
local function forget(generation)
  redis.call('SREM', stores_key(generation), ARGV[1])
  return redis.call('DEL', cursor_key(generation, ARGV[1]), open_key(generation, ARGV[1]))
end
local generation = redis.call('HGET', segment_key, 'generation')
local deleted = generation and forget(generation) or 0
-- Of a deleted generation nobody counts members any more.
if deleted > 0 and ARGV[2] == '1' then inexact(generation) end
for i = 3, #ARGV do deleted = deleted + forget(ARGV[i]) end
return deleted
