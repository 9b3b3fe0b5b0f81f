-- Forget what is known of a dead entry that only its record keeps, and the entry with it; never while the stream has the
-- entry, for folds would take it for live then.
-- ARGV: generation, entry id, the record as it was read
-- Returns 1, or 0 when the record is another by now, or the entry not compacted yet
local generation, id = ARGV[1], ARGV[2]
if redis.call('HGET', dead_key(generation), id) ~= ARGV[3] or after(id, trimmed(generation)) then return 0 end
redis.call('HDEL', dead_key(generation), id)
redis.call('HDEL', base .. ':g' .. generation .. ':crashes', id)
redis.call('ZREM', late_key(generation), id)
redis.call('UNLINK', late_entry_key(generation, id))
-- Counted all the same: accepted = applied + pending + dead + discarded + expired, at every moment.
local undecided = string.sub(ARGV[3], 1, #DEAD) == DEAD
redis.call('HINCRBY', head_key(generation), undecided and 'expired' or 'forgotten', 1)
return 1
