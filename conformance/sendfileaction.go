package conformance

import (
	"context"
	"os"
	"strconv"
	"strings"

	"github.com/gostrand/strand"
)

// doSendfile sends a file of SIZE pattern bytes; the result is an event. It
// runs beside the callbacks, as asyncio's coroutine does.
func doSendfile(c *connection, target any, args []string) error {
	f, err := patternFile(c.run.dir, args[0])
	if err != nil {
		return err
	}
	bounds := map[string]int64{}
	for _, arg := range args[1:] {
		name, value, _ := strings.Cut(arg, "=")
		if bounds[name], err = strconv.ParseInt(value, 10, 64); err != nil {
			return err
		}
	}
	c.run.playing.Go(func() {
		defer f.Close()
		ctx, cancel := context.WithTimeout(context.Background(), c.run.timeout)
		defer cancel()
		sent, err := strand.Sendfile(ctx, target.(strand.Transport), f, bounds["offset"], bounds["count"])
		if err != nil {
			c.section.add("sendfile %s", c.run.errorName(err))
		} else {
			c.section.add("sendfile %d", sent)
		}
		c.post("sendfile", 1)
	})
	return nil
}

// patternFile makes a file of size pattern bytes.
func patternFile(dir, size string) (*os.File, error) {
	data, err := new(source).take(size)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "sendfile")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(data)
	return f, err
}
