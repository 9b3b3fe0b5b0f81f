-- Before a payload for several segments is appended: does this segment take the context kind? With ARGV[2] = '1' the
-- segment is created when it is absent, so that the appends that follow cannot be refused halfway.
-- ARGV: context_kind, create, integration_key, cohort_id
-- Returns {'taken'} (the key is another cohort's) | {'kind', existing kind} | {'free', generation or '0'}
return refusal(ARGV[1], ARGV[3], ARGV[4], ARGV[2] == '1')
  or {'free', redis.call('HGET', segment_key, 'generation') or '0'}
