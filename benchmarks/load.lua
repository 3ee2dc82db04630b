-- The requests that wrk sends in one of the phases assign, acquire and mix.
-- Arguments: the phase, the number of executors, and a prefix for the order ids, which makes them new in each run.

local phase, executors, prefix, host
local orders = 0

function init(args)
    phase, executors, prefix = args[1], tonumber(args[2]), args[3]
    host = " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port .. "\r\n\r\n"
    math.randomseed(1)
end

-- Each phase has its own executors, so no phase changes the orders of another.
local function executor()
    return phase .. "-" .. math.random(executors)
end

local function assign()
    orders = orders + 1
    return "PUT /orders/assign?order_id=" .. prefix .. orders .. "&executor_id=" .. executor()
        .. "&zone_id=zone-" .. orders % 100 .. host
end

local function acquire()
    return "GET /order/acquire?executor_id=" .. executor() .. host
end

local function cancel()
    return "POST /order/cancel?order_id=" .. prefix .. math.random(math.max(orders, 1)) .. host
end

function request()
    if phase == "assign" then return assign() end
    if phase == "acquire" then return acquire() end
    -- 500,000 executors who poll once a minute make 8,334 acquires per second, next to 100 assigns and 5 cancels.
    local draw = math.random(8334 + 100 + 5)
    if draw <= 8334 then return acquire() end
    if draw <= 8334 + 100 then return assign() end
    return cancel()
end

function done(summary, latency)
    local errors = summary.errors
    print(string.format(
        '{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "p999_ms": %.3f, "errors": %d}',
        summary.requests, summary.duration / 1e6,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
