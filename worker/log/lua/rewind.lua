-- A drain that lost its lease, all its requests answered, goes back to where it began (rules 6 and 7).
-- ARGV: generation, store, token
-- Returns {1 when a mark was there, 1 when a wake-up is due (and claimed)}
local rewound = rewind_mark(ARGV[1], ARGV[2], ARGV[3])
return {rewound, arm(ARGV[1], ARGV[2])}
