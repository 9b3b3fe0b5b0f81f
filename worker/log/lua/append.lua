-- Append batches to their segments' logs (rule 1), each by itself: create the segment or refuse the context kind,
-- de-duplicate, stamp. One call for many, and one text for all that is said of them: a call, and an argument, cost more
-- by themselves than what is done with them.
-- KEYS: the base of each batch's segment
-- ARGV: JSON, for each batch an array: batch_id, context_kind, integration_key, cohort_id, name, url,
--         not_after (ms of this server's clock: later than that, somebody was told that it failed),
--         generation ('' for a payload that may create the segment, '*' for one that is for any that lives; what people
--         made is for the one that they saw), [the store ids of the environment], [entry fields and values], n,
--         payload_id ('' if the entry holds the body), rejected (how many members were left out: then the entry is
--         listed), and for an import its id and its chunks ('final' for the one that ends the log, and deletes the
--         segment);
--       and n more entry fields and values of each batch, as bytes
-- Returns for each: {'expired'} | {'gone'} (that generation is) | {'absent'} (no segment lives) | {'taken'} (the key is
--   another cohort's) | {'kind', existing kind} | {'incomplete'} (the import's chunks are not, or no longer, there)
--   | {'duplicate', generation, store ids due ...} | {'appended', generation, store ids due ...} | an error
local time, remembered = now_ms(), nil -- in which set this try has entered its batch id
local now = string.format('%d', time)

local function append(batch_id, kind, integration, cohort, name, url, not_after, wanted_generation, stores, fields, _,
    payload_id, rejected, import, chunks)
  local final = chunks == 'final'
  if time > not_after then return {'expired'} end

  if wanted_generation ~= '' and wanted_generation ~= '*' and not lives(wanted_generation) then
    -- The reply of the deletion was lost; whom it woke, the sweeper finds.
    if final and redis.call('HEXISTS', imports_key(wanted_generation), import) == 1 then
      return {'duplicate', wanted_generation}
    end
    return {'gone'}
  end
  local refused, generation, known = refusal(kind, integration, cohort, wanted_generation == '')
  if refused then return refused end
  if not generation then return {'absent'} end

  -- Every call costs more than what it does, and every one that writes is written to disk by itself: few of them, with
  -- all that they can carry.
  local head, recent = head_key(generation), base .. ':g' .. generation .. ':recent'
  local known_head = redis.call('HMGET', head, 'last', 'batches', 'bytes', 'tidied')
  -- An import is known for good, not for a minute: once it is folded, its chunks are gone; nobody can fold it again.
  local is_known = import and redis.call('HEXISTS', imports_key(generation), import) == 1
  if is_known or redis.call('ZADD', recent, 'NX', now, batch_id) == 0 then
    -- The reply of the first try was lost, and with it the wake-up that it claimed: say again what is due.
    local reply = {'duplicate', generation}
    for _, store in ipairs(stores) do
      local cursor = cursor_key(generation, store)
      if lease(cursor) == '' and after(last(generation), position(cursor)) then reply[#reply + 1] = store end
    end
    return reply
  end
  remembered = recent
  if import and not final and redis.call('HLEN', import_key(generation, import)) ~= chunks then
    redis.call('ZREM', recent, batch_id)
    return {'incomplete'}
  end

  local size = 0
  for i = 1, #fields do size = size + #fields[i] end
  local batches = string.format('%d', (known_head[2] or 0) + 1)
  local bytes = string.format('%d', (known_head[3] or 0) + size)
  -- The stream alone would do for the next id, if the last entry were always in it: a replayed one may lie beside it.
  local wanted, last_ms, last_seq = '*', string.match(known_head[1] or '0-0', '^(%d+)%-(%d+)$')
  if tonumber(last_ms) >= time then wanted = last_ms .. '-' .. string.format('%d', tonumber(last_seq) + 1) end
  local id = redis.call('XADD', log_key(generation), wanted, 'b', batch_id, 'n', batches, 's', bytes,
    unpack(fields))

  -- Batch ids are kept for a minute at least: once a minute those that are older go.
  if time - (known_head[4] or 0) >= 60000 then
    redis.call('HSET', head, 'last', id, 'batches', batches, 'bytes', bytes, 'tidied', now)
    redis.call('ZREMRANGEBYSCORE', recent, '-inf', string.format('%d', time - 60000))
    redis.call('PEXPIRE', recent, 180000)
  else
    redis.call('HSET', head, 'last', id, 'batches', batches, 'bytes', bytes)
  end

  if payload_id ~= '' then redis.call('ZADD', base .. ':g' .. generation .. ':refs', batches, payload_id) end
  if import then
    redis.call('PERSIST', import_key(generation, import)) -- from now on somebody needs them
    redis.call('HSET', imports_key(generation), import, id)
  end
  if rejected > 0 then redis.call('ZADD', base .. ':g' .. generation .. ':rejected', batches, id) end
  if name ~= '' and name ~= known[6] then redis.call('HSET', segment_key, 'name', name) end
  if url ~= '' and url ~= known[7] then redis.call('HSET', segment_key, 'url', url) end

  -- A log that is ended takes nothing more: who comes next begins another generation. Whose segment it is, stays known.
  if final then
    redis.call('HDEL', segment_key, 'context_kind', 'name', 'url', 'members', 'excluded', 'members_exact', 'created_ms',
      'description', 'tags', 'described_ms', 'revisions')
    redis.call('HSET', segment_key, 'deleted_ms', ms_of(id))
  end

  local reply = {'appended', generation}
  for _, store in ipairs(stores) do
    if arm(generation, store) == 1 then reply[#reply + 1] = store end
  end
  return reply
end

local replies, at = {}, 1
for i, batch in ipairs(cjson.decode(ARGV[1])) do
  base, remembered = KEYS[i], nil
  segment_key = base .. ':segment'
  local fields, following = batch[10], at + batch[11]
  for j = at + 1, following do fields[#fields + 1] = ARGV[j] end
  local is_done, reply = pcall(append, unpack(batch))
  if not is_done then
    -- A try that failed halfway must not make the next one a duplicate.
    if remembered then redis.call('ZREM', remembered, batch[1]) end
    reply = type(reply) == 'table' and reply or redis.error_reply(tostring(reply))
  end
  replies[i], at = reply, following
end
return replies
