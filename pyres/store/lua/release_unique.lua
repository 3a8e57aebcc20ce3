-- release_unique: ends a unique lock when its job has come as far as the lock says, if it is that job's.
--
-- KEYS[1]  STRING  Keys.unique(): "<until>:<when it was made, epoch seconds>"; without until it ends by time alone
-- KEYS[2]  (HASH)  Keys.unique_job(); goes too, also when the lock ends by time alone and the job has begun
-- ARGV[1]  how far the job has come: "start" or "done"
-- ARGV[2]  when the job was enqueued, epoch seconds, or "" when that is not known
-- returns  1 when it was ended, else 0
local claim = redis.call("GET", KEYS[1])
if not claim then return 0 end
local stage, made = string.match(claim, "^(%a*):(.*)$")
if stage ~= "" and stage ~= ARGV[1] then return 0 end
-- A lock made after this job was enqueued belongs to a later one: ours had run out.
if ARGV[2] ~= "" and tonumber(made) > tonumber(ARGV[2]) then return 0 end
redis.call("DEL", KEYS[2])
return stage == "" and 0 or redis.call("DEL", KEYS[1])
