// The API in Go over pgx and PostgreSQL, with the HTTP server of the standard library.
//
// Unique indexes decide races, and the loser of a race tries again. The environment variable DATABASE is the URL of the
// database.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

const (
	answerTimeout = 5 * time.Second
	maxLength     = 255
	// With pgx's default of 4, fewer commits share a wait for the disk.
	maxConnections = 8

	uniqueViolation      = "23505"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"

	schema = `
		CREATE TABLE IF NOT EXISTS assigned_order (
			assigned_order_id uuid NOT NULL PRIMARY KEY,
			order_id text NOT NULL,
			executor_id text NOT NULL,
			zone_id text NOT NULL,
			execution_status text NOT NULL
				CHECK (execution_status IN ('assigned', 'acquired', 'completed', 'cancelled')),
			assign_time timestamptz NOT NULL,
			acquire_time timestamptz,
			CHECK (execution_status <> 'assigned' OR acquire_time IS NULL),
			CHECK (execution_status <> 'acquired' OR acquire_time IS NOT NULL)
		);
		CREATE UNIQUE INDEX IF NOT EXISTS assigned_order_order_id ON assigned_order (order_id);
		CREATE UNIQUE INDEX IF NOT EXISTS assigned_order_active_executor ON assigned_order (executor_id)
			WHERE execution_status IN ('assigned', 'acquired')`
	columns = `assigned_order_id, order_id, executor_id, zone_id, execution_status, assign_time, acquire_time`
	active  = `execution_status IN ('assigned', 'acquired')`

	completeActive = `UPDATE assigned_order SET execution_status = 'completed' WHERE executor_id = $1 AND ` + active
	insertOrder    = `INSERT INTO assigned_order VALUES (gen_random_uuid(), $1, $2, $3, 'assigned', now(), NULL)
		ON CONFLICT (order_id) DO NOTHING`
	selectActive = `SELECT ` + columns + ` FROM assigned_order WHERE executor_id = $1 AND ` + active
	acquireOrder = `UPDATE assigned_order SET execution_status = 'acquired', acquire_time = now()
		WHERE assigned_order_id = $1 AND execution_status = 'assigned' RETURNING ` + columns
	cancelOrder = `UPDATE assigned_order SET execution_status = 'cancelled' WHERE order_id = $1 AND ` + active
)

// answer is the body of every response.
type answer struct {
	Message      string        `json:"message"`
	OrderProfile *orderProfile `json:"order_profile,omitempty"`
}

// orderProfile is a row of the table.
type orderProfile struct {
	AssignedOrderID string     `json:"assigned_order_id"`
	OrderID         string     `json:"order_id"`
	ExecutorID      string     `json:"executor_id"`
	ZoneID          string     `json:"zone_id"`
	ExecutionStatus string     `json:"execution_status"`
	AssignTime      time.Time  `json:"assign_time"`
	AcquireTime     *time.Time `json:"acquire_time"`
}

// refusal is an error in the request.
type refusal string

func (r refusal) Error() string { return string(r) }

// service answers requests from a database.
type service struct {
	pool *pgxpool.Pool
}

// assign registers an order and completes the executor's active one.
func (s *service) assign(ctx context.Context, query url.Values) (answer, error) {
	ids, err := identifiers(query, "order_id, executor_id and zone_id", "order_id", "executor_id", "zone_id")
	if err != nil {
		return answer{}, err
	}
	orderID, executorID, zoneID := ids[0], ids[1], ids[2]
	for {
		err := s.pool.BeginFunc(ctx, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, completeActive, executorID); err != nil {
				return err
			}
			inserted, err := tx.Exec(ctx, insertOrder, orderID, executorID, zoneID)
			if err == nil && inserted.RowsAffected() == 0 {
				return refusal("AssignedOrder with provided orderId already exists")
			}
			return err
		})
		if !collided(err) {
			return answer{Message: "Successfully created"}, err
		}
	}
}

// acquire gives an executor the order assigned to them.
func (s *service) acquire(ctx context.Context, query url.Values) (answer, error) {
	ids, err := identifiers(query, "executor_id", "executor_id")
	if err != nil {
		return answer{}, err
	}
	for {
		order, err := scan(s.pool.QueryRow(ctx, selectActive, ids[0]))
		if errors.Is(err, pgx.ErrNoRows) {
			return answer{Message: "There are no orders assigned to you"}, nil
		}
		if err == nil && order.ExecutionStatus == "assigned" {
			order, err = scan(s.pool.QueryRow(ctx, acquireOrder, order.AssignedOrderID))
		}
		// No row now means that another request was faster: the order is acquired or final.
		if !errors.Is(err, pgx.ErrNoRows) {
			return answer{Message: "Successfully acquired", OrderProfile: order}, err
		}
	}
}

// cancel cancels an order.
func (s *service) cancel(ctx context.Context, query url.Values) (answer, error) {
	ids, err := identifiers(query, "order_id", "order_id")
	if err != nil {
		return answer{}, err
	}
	cancelled, err := s.pool.Exec(ctx, cancelOrder, ids[0])
	if err == nil && cancelled.RowsAffected() == 0 {
		return answer{Message: "AssignedOrder with OrderId " + ids[0] + " does not exist or has already been canceled"}, nil
	}
	return answer{Message: "Successfully canceled"}, err
}

// collided reports whether a transaction lost a race and can be tried again.
func collided(err error) bool {
	var failed *pgconn.PgError
	return errors.As(err, &failed) &&
		(failed.Code == uniqueViolation || failed.Code == serializationFailure || failed.Code == deadlockDetected)
}

// scan returns a row of the table.
func scan(row pgx.Row) (*orderProfile, error) {
	var o orderProfile
	err := row.Scan(
		&o.AssignedOrderID, &o.OrderID, &o.ExecutorID, &o.ZoneID, &o.ExecutionStatus, &o.AssignTime, &o.AcquireTime,
	)
	if err != nil {
		return nil, err
	}
	o.AssignTime = o.AssignTime.UTC()
	if o.AcquireTime != nil {
		*o.AcquireTime = o.AcquireTime.UTC()
	}
	return &o, nil
}

// identifiers returns the values of parameters. If one is missing, it returns a refusal that lists all of them.
func identifiers(query url.Values, listed string, names ...string) ([]string, error) {
	ids := make([]string, len(names))
	for i, name := range names {
		ids[i] = strings.Join(query[name], "")
		if ids[i] == "" {
			return nil, refusal("Missing parameters, please provide " + listed)
		}
	}
	for i, name := range names {
		if problem := problemOf(ids[i], len(query[name])); problem != "" {
			return nil, refusal("Invalid parameter " + name + ": " + problem)
		}
	}
	return ids, nil
}

// problemOf returns what is wrong with an identifier, or "". The request gave it this many times.
func problemOf(id string, given int) string {
	switch {
	case given > 1:
		return "given more than once"
	case !utf8.ValidString(id):
		return "not UTF-8"
	case utf8.RuneCountInString(id) > maxLength:
		return "longer than 255 characters"
	case strings.IndexFunc(id, func(r rune) bool { return r < ' ' || r == '\x7f' }) >= 0:
		return "control characters are not allowed"
	}
	return ""
}

// handler returns the HTTP handler of an operation.
func handler(method string, operation func(context.Context, url.Values) (answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method {
			w.Header().Set("Allow", method)
			reply(w, http.StatusMethodNotAllowed, answer{Message: "Method not allowed"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
		defer cancel()
		body, err := operation(ctx, r.URL.Query())
		var refused refusal
		switch {
		case errors.As(err, &refused):
			reply(w, http.StatusBadRequest, answer{Message: refused.Error()})
		case err != nil:
			log.Printf("%s %s: %v", r.Method, r.URL.Path, err)
			reply(w, http.StatusInternalServerError, answer{Message: "Unknown error"})
		default:
			reply(w, http.StatusOK, body)
		}
	}
}

// reply sends a response.
func reply(w http.ResponseWriter, status int, body answer) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Printf("cannot answer: %v", err)
	}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "the address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	config, err := pgxpool.ParseConfig(os.Getenv("DATABASE"))
	if err != nil {
		log.Fatalf("cannot read DATABASE: %v", err)
	}
	config.MaxConns = maxConnections
	pool, err := pgxpool.ConnectConfig(ctx, config)
	if err != nil {
		log.Fatalf("cannot connect to the database: %v", err)
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, schema); err != nil {
		log.Fatalf("cannot create the table: %v", err)
	}

	s := &service{pool}
	mux := http.NewServeMux()
	mux.HandleFunc("/orders/assign", handler(http.MethodPut, s.assign))
	mux.HandleFunc("/order/acquire", handler(http.MethodGet, s.acquire))
	mux.HandleFunc("/order/cancel", handler(http.MethodPost, s.cancel))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusNotFound, answer{Message: "Not found"})
	})
	server := &http.Server{Addr: *listen, Handler: mux, ReadHeaderTimeout: answerTimeout}
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()
	<-ctx.Done()
	_ = server.Shutdown(context.Background())
}
