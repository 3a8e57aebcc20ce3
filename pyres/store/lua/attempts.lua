-- attempts: finds the record of how often a job was tried, and reserves it for its worker or removes it.
--
-- KEYS[1]  (HASH)  Keys.attempts(): token -> "<attempts> <first> <due> <payload>" of a job that waits for a retry;
--                  "<token>:by" -> the id of the worker that runs it
-- ARGV[1]  "hold" to reserve the record for a worker, "end" to remove it
-- ARGV[2]  the worker's id
-- ARGV[3]  the time now, epoch seconds
-- ARGV[4]  how often the job was tried, from its payload; "" if not in it
-- ARGV[5]  the first attempt, epoch seconds, from its payload; "" if not in it
-- ARGV[6]  Keys.timestamps_prefix: one SET for each payload, named by the payload itself
-- ARGV[7]  Keys.delayed() without the timestamp, to which the due time is added
-- ARGV[8]  Keys.delayed_name() without the timestamp
-- returns  {token, attempts, first}, or nil if there is no record
-- Equal jobs cannot be distinguished if a scheduler dropped all but class and arguments: then the record is the one
-- that was due first, of those whose payload is no longer delayed.
local fields = redis.pcall("HGETALL", KEYS[1])
if fields.err or #fields == 0 then return nil end
local records, by = {}, {}
for at = 1, #fields, 2 do
    local token = string.match(fields[at], "^(.*):by$")
    if token then by[token] = fields[at + 1] else
        local attempts, first, due, payload = string.match(fields[at + 1], "^(%d+) (-?%d+) (-?%d+) (.*)$")
        if attempts then
            table.insert(records, {fields[at], attempts, first, due, payload, tonumber(due)})
        end
    end
end
table.sort(records, function(a, b) return a[6] < b[6] or (a[6] == b[6] and a[1] < b[1]) end)
local waiting = {}
-- Whether the payload of a record is still delayed; each delayed copy belongs to one record.
local function waits(record)
    local due, payload = record[4], record[5]
    if payload == "" then return record[6] > tonumber(ARGV[3]) and redis.call("EXISTS", ARGV[7] .. due) == 1 end
    local place = due .. " " .. payload
    if not waiting[place] then
        waiting[place] = 0
        if redis.pcall("SISMEMBER", ARGV[6] .. payload, ARGV[8] .. due) == 1 then
            local copies = redis.pcall("LPOS", ARGV[7] .. due, payload, "COUNT", 0, "MAXLEN", 10000)
            -- Servers before Redis 6.0.6 have no LPOS.
            waiting[place] = copies.err and 1 or #copies
        end
    end
    waiting[place] = waiting[place] - 1
    return waiting[place] >= 0
end
local found
for _, record in ipairs(records) do
    if by[record[1]] == ARGV[2] then found = record break end
end
for _, record in ipairs(found and {} or records) do
    local same = (ARGV[4] == "" or record[2] == ARGV[4]) and (ARGV[5] == "" or record[3] == ARGV[5])
    if not by[record[1]] and not waits(record) and same then found = record break end
end
if not found then return nil end
if ARGV[1] == "hold" then
    redis.call("HSET", KEYS[1], found[1] .. ":by", ARGV[2])
else
    redis.call("HDEL", KEYS[1], found[1], found[1] .. ":by")
end
return {found[1], found[2], found[3]}
