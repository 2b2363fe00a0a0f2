package conformance

import (
	"context"
	"errors"
	"os"

	"github.com/gostrand/strand"
)

// pipeEnds makes the transport's file and the peer's end.
func (r *Run) pipeEnds() (ours *os.File, theirs end, err error) {
	reading := r.scenario.Kind == "read_pipe"
	var read, write *os.File
	switch r.scenario.Options.Via {
	case "", "pipe":
		read, write, err = os.Pipe()
		if err == nil && r.scenario.Options.Buffers == "small" {
			err = setPipeSize(write, 4096)
		}
	case "fifo":
		read, write, err = openFIFO(r.dir + "/fifo")
	case "socket":
		read, write, err = socketPair()
	case "pty":
		// The terminal's side is the one that a program writes to.
		read, write, err = openTerminal()
	case "file":
		read, err = os.CreateTemp(r.dir, "file")
		return read, &fileEnd{read}, err
	default:
		err = errors.New("unknown via")
	}
	if err != nil {
		return nil, nil, err
	}
	if reading {
		return read, &fileEnd{write}, nil
	}
	return write, &fileEnd{read}, nil
}

func startPipe(r *Run) error {
	ours, theirs, err := r.pipeEnds()
	if err != nil {
		return err
	}
	if f, ok := theirs.(*fileEnd); ok {
		r.closeLater(f.file)
	}
	r.addPeers()
	if err := r.peers[0].adopt(theirs); err != nil {
		return err
	}
	r.startPeers()
	r.created(func() error { return r.connectPipe(ours) })
	if len(r.snapshot()) == 0 || r.board.count("c0.made") == 0 {
		r.showFile(ours)
	}
	return nil
}

func (r *Run) connectPipe(f *os.File) error {
	opts := &strand.PipeOptions{TransportOptions: r.options()}
	connect := strand.ConnectWritePipe[strand.Protocol]
	if r.scenario.Kind == "read_pipe" {
		connect = strand.ConnectReadPipe[strand.Protocol]
	}
	_, _, err := connect(context.Background(), f, r.factory, opts)
	return err
}

// showFile shows who owns the file after a creating call that failed.
func (r *Run) showFile(f *os.File) {
	state := "still open"
	if f.Close() != nil {
		state = "closed"
	}
	r.main.add("file %s", state)
}
