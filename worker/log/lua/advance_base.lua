-- Note how many chunks of a snapshot have been written, every store request answered. The cursor and the open mark stay:
-- whoever rewinds this drain starts the snapshot over. Which one a store was first filled with, no rewind forgets.
-- ARGV: generation, store, token, epoch, token of the snapshot, chunks, change of the member count ('' if another store
--   counts), change of the count of those excluded, '1' when the store is filled from nothing
-- Returns 1, or 0 when the lease or the epoch is not that of the take any more
local cursor = cursor_key(ARGV[1], ARGV[2])
if lease(cursor) ~= ARGV[3] or epoch(cursor) ~= ARGV[4] then return 0 end
redis.call('HSET', cursor, 'base', ARGV[5], 'base_chunks', ARGV[6])
if ARGV[9] == '1' then redis.call('HSETNX', cursor, 'filling', ARGV[5]) end
redis.call('HINCRBY', cursor, 'beat', 1)
count_in(ARGV[1], ARGV[7], ARGV[8])
return 1
