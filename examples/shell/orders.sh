#!/usr/bin/env bash
# Calls the orders service with curl: the life of an order, and an assign whose response is lost.
#
# If `orders` is not in PATH, ORDERS is the command: ORDERS='.venv/bin/python -m orders' ./orders.sh
# For your own script, copy start_orders, stop_orders and the traps. They need bash 4.4 or newer.
set -euo pipefail

# Starts a server on a free port, with the test controls and with its orders in memory. Sets orders_url.
start_orders() {
    local command line='' code=0
    read -r -a command <<< "${ORDERS:-orders}"
    IFS= read -r -t 30 line < <(
        exec "${command[@]}" serve --controls --port 0 --database sqlite:///:memory: --no-access-log
    ) || code=$?
    orders_pid=$!
    if [[ $line != 'orders listening on '* ]]; then
        # `read` returns more than 128 after a timeout.
        if ((code > 128)); then
            echo 'The orders service was not ready after 30 seconds.' >&2
        else
            echo "The orders service did not start: ${command[*]} serve" >&2
        fi
        return 1
    fi
    orders_url=${line#orders listening on }
}

# Stops the server and waits for its end. Does nothing if no server is running.
stop_orders() {
    if [[ -n ${orders_pid:-} ]]; then
        kill "$orders_pid" 2> /dev/null || true
        wait "$orders_pid" 2> /dev/null || true
        orders_pid=''
    fi
}

# call METHOD PATH [BODY]: sends a request, and prints it with its answer. Sets answer. Fails if curl fails.
call() {
    local code=0
    echo "  $*"
    answer=$(
        # A proxy from the environment could not reach 127.0.0.1.
        curl --silent --noproxy '*' --max-time 10 --request "$1" ${3:+--data "$3"} \
            --write-out ' (%{http_code})' "$orders_url$2"
    ) || code=$?
    if ((code)); then
        echo "    no answer: curl ended with exit code $code"
        return "$code"
    fi
    echo "    $answer"
}

# expect TEXT: ends the script if the last answer does not have the text.
expect() {
    if [[ $answer != *"$1"* ]]; then
        echo "The answer should have been: $1" >&2
        exit 1
    fi
}

trap stop_orders EXIT
# Without this trap, an interrupted script would not wait for the server's end.
trap 'exit 1' HUP INT TERM
start_orders
echo "The orders service is at $orders_url."

echo 'The life of an order:'
call PUT '/orders/assign?order_id=order-1&executor_id=executor-1&zone_id=zone-1'
expect 'Successfully created'
call GET '/order/acquire?executor_id=executor-1'
expect 'Successfully acquired'
call POST '/order/cancel?order_id=order-1'
expect 'Successfully canceled'

echo 'An assign whose answer is lost after the order was stored:'
call POST /_controls/faults '{"operation": "assign_order", "kind": "drop", "when": "after"}'
expect '(201)'
lost=0
call PUT '/orders/assign?order_id=order-2&executor_id=executor-1&zone_id=zone-1' || lost=$?
if ((lost != 52)); then
    echo 'curl should have ended with exit code 52, because the answer is lost.' >&2
    exit 1
fi

echo 'The same request again: the order is already registered, once.'
call PUT '/orders/assign?order_id=order-2&executor_id=executor-1&zone_id=zone-1'
expect 'already exists'
call GET '/_controls/orders?order_id=order-2'
expect '"count": 1,'

stop_orders
echo 'The orders service is stopped.'
