package process

import (
	"context"
	"os"
	"time"
)

// Drain returns how many bytes one listener gets of what an exited process has
// left in f, when the time for its descendants ends at stop.
func Drain(ctx context.Context, f *os.File, stop time.Time) int {
	return heard(ctx, func(p *process) {
		p.drain(source{f, pipeChunk, stdoutEvent}, make([]byte, pipeChunk), stop)
	})
}

// CarryExited is Drain for a process that has exited before the first read.
func CarryExited(ctx context.Context, f *os.File) (int, error) {
	err := f.SetReadDeadline(time.Unix(1, 0))
	return heard(ctx, func(p *process) { p.carry(source{f, pipeChunk, stdoutEvent}) }), err
}

func heard(ctx context.Context, tell func(*process)) (n int) {
	p := &process{}
	l := p.out.listen(ctx)
	defer l.leave()
	go func() {
		tell(p)
		p.out.finish(nil)
	}()
	for ev := range l.events {
		n += len(ev.GetData().GetStdout())
	}
	return n
}
