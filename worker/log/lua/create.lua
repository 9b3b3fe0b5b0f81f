-- Create a segment by hand, without any batch: its next generation, empty.
-- ARGV: context_kind, integration_key, cohort_id, name
-- Returns {'there', generation} (the segment lives, and nothing was changed) | {'created', generation}
local generation = redis.call('HGET', segment_key, 'generation')
if generation and lives(generation) then return {'there', generation} end
refusal(ARGV[1], ARGV[2], ARGV[3], true)
if ARGV[4] ~= '' then redis.call('HSET', segment_key, 'name', ARGV[4]) end
return {'created', redis.call('HGET', segment_key, 'generation')}
