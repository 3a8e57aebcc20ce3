-- release_unique: ends a unique lock when its job has reached the lock's stage, unless a later job has the lock.
--
-- KEYS[1]  STRING  Keys.unique(): "<stage>:<when it was made, epoch seconds>"; without a stage only its TTL ends it
-- KEYS[2]  (HASH)  Keys.unique_job(); removed too, also if only the TTL ends the lock and the job has started
-- ARGV[1]  the stage that the job has reached: "start" or "done"
-- ARGV[2]  when the job was enqueued, epoch seconds, or "" if unknown
-- returns  1 when the lock was ended, else 0
local lock = redis.call("GET", KEYS[1])
if not lock then return 0 end
local stage, made = string.match(lock, "^(%a*):(.*)$")
if stage ~= "" and stage ~= ARGV[1] then return 0 end
-- A lock made after this job was enqueued belongs to a later job: this job's lock had expired.
if ARGV[2] ~= "" and tonumber(made) > tonumber(ARGV[2]) then return 0 end
redis.call("DEL", KEYS[2])
return stage == "" and 0 or redis.call("DEL", KEYS[1])
