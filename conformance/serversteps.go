package conformance

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// serving is a running ServeForever.
type serving struct {
	cancel context.CancelFunc
	ended  chan error
}

// serverStep runs one "server ..." step of the application.
func (r *Run) serverStep(l *line, words []string) error {
	var err error
	switch words[0] {
	case "close":
		err = r.server.Close()
	case "close_clients":
		r.server.CloseClients()
	case "abort_clients":
		r.server.AbortClients()
	case "start_serving":
		err = r.server.StartServing()
	case "wait_closed":
		return r.waitServerClosed(l)
	case "serve_forever":
		r.serveForever()
	case "cancel_serving":
		r.cancelServing(l)
	case "ask":
		l.result(r.askServer(words[1]))
	default:
		return errors.New("unknown server step")
	}
	if err != nil {
		l.result(errorName(err))
	}
	return nil
}

// waitServerClosed shows that the wait lasts until the last connection is
// lost.
func (r *Run) waitServerClosed(l *line) error {
	ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
	defer cancel()
	if err := r.server.Wait(ctx); err != nil {
		return err
	}
	lost := 0
	for _, c := range r.snapshot() {
		lost += r.board.count(c.name + ".lost")
	}
	l.result(fmt.Sprintf("ok after %d lost", lost))
	return nil
}

func (r *Run) serveForever() {
	ctx, cancel := context.WithCancel(context.Background())
	r.serving = &serving{cancel, make(chan error, 1)}
	go func() { r.serving.ended <- r.server.ServeForever(ctx) }()
}

func (r *Run) cancelServing(l *line) {
	r.serving.cancel()
	if err := <-r.serving.ended; errors.Is(err, context.Canceled) {
		l.result("cancelled")
	} else {
		l.result(errorName(err))
	}
	r.serving = nil
}

func (r *Run) askServer(what string) string {
	switch what {
	case "is_serving":
		return yes(r.server.IsServing())
	case "sockets":
		return strconv.Itoa(len(r.server.Addrs()))
	}
	return "unknown question"
}

// stopServer ends what is left of a server.
func (r *Run) stopServer() error {
	if r.server == nil {
		return nil
	}
	if r.serving != nil {
		r.serving.cancel()
		<-r.serving.ended
	}
	r.server.AbortClients()
	r.server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), r.timeout)
	defer cancel()
	return r.server.Wait(ctx)
}
