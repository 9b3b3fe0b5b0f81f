-- Create a segment by hand, without any batch: its next generation, empty.
-- ARGV: context_kind, integration_key, cohort_id, n times a field of what is said of it and its value ('' for nothing)
-- Returns {'there', generation} (the segment lives) | {'taken'} (its cohort has moved): nothing was changed
-- | {'created', generation}
local generation = redis.call('HGET', segment_key, 'generation')
if generation and lives(generation) then return {'there', generation} end
local refused = refusal(ARGV[1], ARGV[2], ARGV[3], true)
if refused then return refused end
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] ~= '' then redis.call('HSET', segment_key, ARGV[i], ARGV[i + 1]) end
end
return {'created', redis.call('HGET', segment_key, 'generation')}
