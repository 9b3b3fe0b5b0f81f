-- A drain that lost its lease, all its requests answered, goes back to where it began (rules 6 and 7).
-- ARGV: generation, store, token
-- Returns {1 when a mark was there, 1 when a wake-up is due (and claimed)}
local cursor = cursor_key(ARGV[1], ARGV[2])
local rewound = rewind_mark(ARGV[1], ARGV[2], ARGV[3])
-- It may have lost no more than the epoch: then the lease is still its own, and nobody else would give it back.
if lease(cursor) == ARGV[3] then redis.call('HSET', cursor, 'lease', '') end
return {rewound, arm(ARGV[1], ARGV[2])}
