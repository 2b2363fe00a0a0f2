package strand

import (
	"fmt"
	"log/slog"
	"time"
)

// Defaults of the limits, all in one place.
const (
	defaultCloseTimeout    = 30 * time.Second
	defaultShutdownTimeout = 30 * time.Second
	defaultSlowCallback    = 100 * time.Millisecond // asyncio: loop.slow_callback_duration
)

// TransportOptions are the settings of one transport; the options of every
// entry point embed them. Zero values are the defaults. An options struct is
// copied before the entry point returns, and may be used again.
type TransportOptions struct {
	// WriteBufferHigh and WriteBufferLow are the initial water marks in bytes,
	// by default 64 KiB and 16 KiB. If one is zero it is derived from the
	// other: low is a quarter of high. Negative means a mark of 0 bytes. High
	// below low is an error.
	WriteBufferHigh, WriteBufferLow int

	// WriteBufferMax is a hard limit of the output held, in bytes, over which
	// Write and SendTo return ErrBufferFull. One write onto an empty buffer is
	// always accepted. Zero or negative: no limit.
	WriteBufferMax int

	// CloseTimeout is how long Close waits for accepted output to go out
	// before the connection is aborted with a *TimeoutError. Default 30 s,
	// negative: for ever, as in asyncio.
	CloseTimeout time.Duration

	// IdleTimeout ends a connection with a *TimeoutError when no byte was
	// received or sent for this long. It is measured in quarters: the end
	// comes at most a quarter late. Zero or negative: off.
	IdleTimeout time.Duration

	// WriteTimeout ends a connection with a *TimeoutError when output is
	// waiting and the peer has taken nothing of it for this long, at most a
	// quarter late. Over a conn other than a *net.TCPConn or *net.UnixConn a
	// piece of up to 64 KiB counts only when its Write has returned. Zero or
	// negative: off.
	WriteTimeout time.Duration

	// Logger gets what no caller can be told: panics of callbacks, failures of
	// accepting, and in Debug more. Its Handler is called under no lock of the
	// library's, so that it may ask for Server.Connections, say. Default
	// slog.Default(). asyncio: loop.set_exception_handler.
	Logger *slog.Logger

	// Debug turns on asyncio's debug mode for the connection: slow callbacks
	// and errors that are otherwise silent are logged, the slice given to
	// DataReceived is overwritten after the call so that protocols that keep
	// it are found out, and Server.Connections tells where each connection was
	// created. Expensive. asyncio: loop.set_debug.
	Debug bool

	// SlowCallback is the duration from which a callback is logged in Debug.
	// Default 100 ms, negative: never. asyncio: loop.slow_callback_duration.
	SlowCallback time.Duration
}

// config is TransportOptions with the defaults filled in. It never changes and
// is shared by all connections of a server.
type config struct {
	high, low, max int
	closeTimeout   time.Duration // negative: none
	idleTimeout    time.Duration // zero: none
	writeTimeout   time.Duration // zero: none
	slow           time.Duration // zero: callbacks are not timed
	debug          bool
	log            *slog.Logger
}

// resolve fills in the defaults.
func (o *TransportOptions) resolve() (*config, error) {
	var flow flowControl
	if err := flow.setLimits(markOf(o.WriteBufferHigh), markOf(o.WriteBufferLow)); err != nil {
		return nil, err
	}
	c := &config{
		high:         flow.high,
		low:          flow.low,
		max:          max(o.WriteBufferMax, 0),
		closeTimeout: orDefault(o.CloseTimeout, defaultCloseTimeout),
		idleTimeout:  max(o.IdleTimeout, 0),
		writeTimeout: max(o.WriteTimeout, 0),
		debug:        o.Debug,
		log:          o.Logger,
	}
	if o.Debug {
		c.slow = max(orDefault(o.SlowCallback, defaultSlowCallback), 0)
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	return c, nil
}

// markOf translates a water mark of the options, where zero is "not given" and
// negative is zero bytes, to one of setLimits, where negative is "not given".
func markOf(option int) int {
	switch {
	case option == 0:
		return -1
	case option < 0:
		return 0
	}
	return option
}

func orDefault[T ~int | ~int64](value, def T) T {
	if value == 0 {
		return def
	}
	return value
}

// badOption is the error for options that contradict each other.
func badOption(format string, args ...any) error {
	return fmt.Errorf("strand: bad option: %w", fmt.Errorf(format, args...))
}
