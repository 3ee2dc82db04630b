#!/usr/bin/env bash
# Calls the orders service with curl: the life of an order, and assigns that do not get their answer.
#
# If `orders` is not in PATH, ORDERS is the command: ORDERS='.venv/bin/python -m orders' ./orders.sh
# For your own script, copy start_orders, stop_orders and the traps, and for its requests call and assign. They need
# bash 4.4 and curl 7.84, or newer.
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

# call METHOD PATH [BODY]: sends a request, and prints it with its answer. Fails if curl fails.
# Sets answer, status, and the seconds in retry_after.
call() {
    local code=0 output
    echo "  $*"
    status='' retry_after=''
    output=$(
        # A proxy from the environment could not reach 127.0.0.1.
        curl --silent --noproxy '*' --max-time 10 --request "$1" ${3:+--data "$3"} \
            --write-out '\n%{http_code} %header{retry-after}' "$orders_url$2"
    ) || code=$?
    if ((code)); then
        echo "    no answer: curl ended with exit code $code"
        return "$code"
    fi
    read -r status retry_after <<< "${output##*$'\n'}"
    answer="${output%$'\n'*} ($status)"
    echo "    $answer"
}

# assign ORDER EXECUTOR ZONE: assigns an order, in at most 4 attempts. The ids must not need escapes.
# Returns 0 if the order is registered, 1 if it is not or if somebody else has registered it, 2 if that is in doubt.
assign() {
    local attempt code in_doubt=0
    for attempt in 1 2 3 4; do
        code=0
        call PUT "/orders/assign?order_id=$1&executor_id=$2&zone_id=$3" || code=$?
        case "$code $status" in
            '0 200') return 0 ;;
            # After an attempt in doubt, that attempt has registered the order.
            '0 400') if [[ $answer == *'already exists'* ]] && ((in_doubt)); then return 0; else return 1; fi ;;
            # The request was refused, or there was no host or connection to send it to.
            '0 429' | '6 ' | '7 ') ;;
            # The answer is lost, late or incomplete, or the service or a gateway answered 5xx.
            *) in_doubt=1 ;;
        esac
        # Wait for as long as the answer says, but at most 10 seconds.
        [[ $retry_after =~ ^[0-9]+$ ]] || retry_after=$attempt
        if ((attempt == 4 || retry_after > 10)); then
            break
        fi
        sleep "$retry_after"
    done
    return $((1 + in_doubt))
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

echo 'A gateway that gives up after the order was stored: as much in doubt as a lost answer.'
call POST /_controls/faults '{"operation": "assign_order", "kind": "error", "when": "after", "status": 504}'
expect '(201)'
assign order-3 executor-1 zone-1
expect 'already exists'

echo 'Too many requests: the assign was refused, and is sent again when the service wants it.'
call POST /_controls/faults '{"operation": "assign_order", "kind": "error", "status": 429, "retry_after": 1}'
expect '(201)'
assign order-4 executor-1 zone-1
expect 'Successfully created'

echo 'An order of somebody else: no attempt is in doubt, so this is an error.'
taken=0
assign order-1 executor-2 zone-1 || taken=$?
if ((taken != 1)); then
    echo 'The assign should have failed, because the order was registered before.' >&2
    exit 1
fi

stop_orders
echo 'The orders service is stopped.'

echo 'A refused connection: the assign was never sent.'
refused=0
call PUT '/orders/assign?order_id=order-5&executor_id=executor-1&zone_id=zone-1' || refused=$?
if ((refused != 7)); then
    echo 'curl should have ended with exit code 7, because the connection is refused.' >&2
    exit 1
fi
