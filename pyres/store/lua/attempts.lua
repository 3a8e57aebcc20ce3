-- attempts: finds how often a job was tried before, and keeps that for its worker or removes it.
--
-- KEYS[1]  (HASH)  Keys.attempts(): token -> "<attempts> <first> <due> <payload>", of a job that is to be tried again;
--                  "<token>:by" -> the id of the worker that runs it
-- ARGV[1]  "hold" to keep it for a worker, "end" to remove it
-- ARGV[2]  the worker's id
-- ARGV[3]  the time now, epoch seconds
-- ARGV[4]  how often the job was tried, as its own payload says; "" when that says nothing
-- ARGV[5]  the first attempt, epoch seconds, as its own payload says; "" when that says nothing
-- ARGV[6]  Keys.timestamps_prefix: one SET a payload, named by the payload itself
-- ARGV[7]  Keys.delayed() without the timestamp, to which the due time is added
-- ARGV[8]  Keys.delayed_name() without the timestamp
-- returns  {token, attempts, first}, or nil when nothing is known
-- Equal jobs cannot be told apart where a scheduler dropped all but class and arguments: then it is any of those
-- whose payload does not wait any more, the one due first.
local fields = redis.pcall("HGETALL", KEYS[1])
if fields.err or #fields == 0 then return nil end
local known, by = {}, {}
for at = 1, #fields, 2 do
    local token = string.match(fields[at], "^(.*):by$")
    if token then by[token] = fields[at + 1] else
        local attempts, first, due, payload = string.match(fields[at + 1], "^(%d+) (-?%d+) (-?%d+) (.*)$")
        if attempts then
            table.insert(known, {fields[at], attempts, first, due, payload, tonumber(due)})
        end
    end
end
table.sort(known, function(a, b) return a[6] < b[6] or (a[6] == b[6] and a[1] < b[1]) end)
local waiting = {}
-- Whether the payload of an attempt waits for its time; each copy of one that does belongs to one attempt.
local function waits(one)
    local due, payload = one[4], one[5]
    if payload == "" then return one[6] > tonumber(ARGV[3]) and redis.call("EXISTS", ARGV[7] .. due) == 1 end
    local place = due .. " " .. payload
    if not waiting[place] then
        waiting[place] = 0
        if redis.pcall("SISMEMBER", ARGV[6] .. payload, ARGV[8] .. due) == 1 then
            local copies = redis.pcall("LPOS", ARGV[7] .. due, payload, "COUNT", 0, "MAXLEN", 10000)
            -- An error is that of a server before Redis 6.0.6.
            waiting[place] = copies.err and 1 or #copies
        end
    end
    waiting[place] = waiting[place] - 1
    return waiting[place] >= 0
end
local found
for _, one in ipairs(known) do
    if by[one[1]] == ARGV[2] then found = one break end
end
for _, one in ipairs(found and {} or known) do
    local same = (ARGV[4] == "" or one[2] == ARGV[4]) and (ARGV[5] == "" or one[3] == ARGV[5])
    if not by[one[1]] and not waits(one) and same then found = one break end
end
if not found then return nil end
if ARGV[1] == "hold" then
    redis.call("HSET", KEYS[1], found[1] .. ":by", ARGV[2])
else
    redis.call("HDEL", KEYS[1], found[1], found[1] .. ":by")
end
return {found[1], found[2], found[3]}
