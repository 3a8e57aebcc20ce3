-- fire: enqueues the job of a schedule entry for one moment, unless that moment was fired already.
--
-- KEYS[1]   HASH    Keys.schedule_fired
-- KEYS[2]   HASH    Keys.last_enqueued_at
-- KEYS[3]   SET     Keys.queues
-- KEYS[4]   LIST    Keys.queue()
-- KEYS[5]   STRING  Keys.unique() of the job; not used without ARGV[7]
-- KEYS[6]   HASH    Keys.schedule_ranges
-- KEYS[7]   HASH    Keys.schedule_runs
-- KEYS[8]   (HASH)  Keys.unique_job() of the job, as check_unique has it
-- ARGV[1]   the entry's name
-- ARGV[2]   the moment, epoch seconds
-- ARGV[3]   the latest moment that may have been fired before, epoch seconds
-- ARGV[4]   the time now, as Ruby's Time#to_s
-- ARGV[5]   the queue's name
-- ARGV[6]   the payload
-- ARGV[7]   the lock of a unique job, or ""
-- ARGV[8]   the lock's TTL, milliseconds
-- ARGV[9]   a second between which and the moment the entry has no other moment
-- ARGV[10]  the time now, epoch seconds
-- ARGV[11]  how far ahead of now a moment in KEYS[1] without a range may be, seconds
-- ARGV[12]  "1" for a missed moment that is fired late, else "0"
-- ARGV[13]  the digest of the entry's run in KEYS[7], or "" if its moments are not counted
-- ARGV[14]  how many moments its run has
-- ARGV[15..]  the fields of KEYS[8] except `lock`, each followed by its value
-- returns   1 when it was enqueued, 0 when it was fired before, 2 when it is a duplicate, 3 when its run has ended
-- All moments in a range were fired, those between two ranges were not. A moment that was fired by a clock that was
-- ahead (see doubt_ranges) fires again when its time has come, but not late as a missed one.
-- uses      unique_job
local moment, limit, before, now = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[9]), tonumber(ARGV[10])
local fired = tonumber(redis.call("HGET", KEYS[1], ARGV[1]))
local ranges, from, in_range = {}, ARGV[2], false
for first, last, mark in string.gmatch(redis.call("HGET", KEYS[6], ARGV[1]) or "", "(%d+)%.%.(%d+)(%??)") do
    local first_number, last_number = tonumber(first), tonumber(last)
    local near = last_number > limit and first_number < 2 * moment - limit
    if near and first_number <= math.max(moment, now) and (mark == "" or ARGV[12] == "1") then return 0 end
    in_range = in_range or last_number == fired
    if mark == "" and last_number >= before and last_number < moment then
        from = first
    else
        table.insert(ranges, first .. ".." .. last .. mark)
    end
end
-- Written by a version without ranges.
if fired and not in_range and fired > limit and fired <= now + tonumber(ARGV[11]) then return 0 end
local run = ARGV[13]
if run ~= "" then
    local digest, begun, count = string.match(redis.call("HGET", KEYS[7], ARGV[1]) or "", "^(%x+) (%d+) (%d+)$")
    if digest ~= run then begun, count = ARGV[10], 0 end
    if tonumber(count) >= tonumber(ARGV[14]) then return 3 end
    run = run .. " " .. begun .. " " .. string.format("%d", tonumber(count) + 1)
end
table.insert(ranges, from .. ".." .. ARGV[2])
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
redis.call("HSET", KEYS[6], ARGV[1], table.concat(ranges, " ", math.max(1, #ranges - 7)))
if run ~= "" then redis.call("HSET", KEYS[7], ARGV[1], run) end
if ARGV[7] ~= "" and not redis.call("SET", KEYS[5], ARGV[7], "NX", "PX", ARGV[8]) then return 2 end
if ARGV[7] ~= "" then write_job(KEYS[8], ARGV[7], ARGV[8], 15) end
redis.call("SADD", KEYS[3], ARGV[5])
redis.call("RPUSH", KEYS[4], ARGV[6])
redis.call("HSET", KEYS[2], ARGV[1], ARGV[4])
return 1
