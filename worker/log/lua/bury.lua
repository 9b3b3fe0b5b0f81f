-- Decide once, for all stores, that an entry is dead (rule 3): the first decision stands. Only a drain that still has its
-- lease and epoch decides: what it read may have been replayed since.
-- ARGV: generation, store, token, epoch, entry id, what is known of its death
-- Returns 1 when this call decided it, 0 when it was decided before, -1 when the lease or the epoch is gone
local cursor = cursor_key(ARGV[1], ARGV[2])
if lease(cursor) ~= ARGV[3] or epoch(cursor) ~= ARGV[4] then return -1 end
redis.call('HDEL', base .. ':g' .. ARGV[1] .. ':crashes', ARGV[5])
return redis.call('HSETNX', dead_key(ARGV[1]), ARGV[5], ARGV[6])
