package process_test

import (
	"context"
	"testing"

	"connectrpc.com/connect"

	pb "bulkhead/proto/process"
)

// call is one request to a rig; only its error counts.
type call func(ctx context.Context, r *rig, pid uint32) error

func starting(m *pb.StartRequest, user string) call {
	return func(ctx context.Context, r *rig, _ uint32) error {
		req := connect.NewRequest(m)
		if user != "" {
			req = as(user, m)
		}
		s, err := r.Start(ctx, req)
		if err != nil {
			return err
		}
		defer s.Close()
		for s.Receive() {
		}
		return s.Err()
	}
}

func connecting(sel *pb.ProcessSelector) call {
	return func(ctx context.Context, r *rig, _ uint32) error {
		s, err := r.Connect(ctx, connect.NewRequest(&pb.ConnectRequest{Process: sel}))
		if err != nil {
			return err
		}
		defer s.Close()
		s.Receive()
		return s.Err()
	}
}

func signalling(sel *pb.ProcessSelector, sig pb.Signal) call {
	return func(ctx context.Context, r *rig, pid uint32) error {
		if sel == nil {
			sel = byPID(pid)
		}
		_, err := r.SendSignal(ctx, connect.NewRequest(&pb.SendSignalRequest{Process: sel, Signal: sig}))
		return err
	}
}

func updating(size *pb.PTY) call {
	return func(ctx context.Context, r *rig, pid uint32) error {
		_, err := r.Update(ctx, connect.NewRequest(&pb.UpdateRequest{Process: byPID(pid), Pty: size}))
		return err
	}
}

func feeding(in *pb.ProcessInput) call {
	return func(ctx context.Context, r *rig, pid uint32) error {
		_, err := r.SendInput(ctx, connect.NewRequest(&pb.SendInputRequest{Process: byPID(pid), Input: in}))
		return err
	}
}

func streaming(events ...*pb.StreamInputRequest) call {
	return func(ctx context.Context, r *rig, _ uint32) error {
		in := r.StreamInput(ctx)
		for _, ev := range events {
			if err := in.Send(ev); err != nil {
				break // the reason comes with the answer
			}
		}
		_, err := in.CloseAndReceive()
		return err
	}
}

// codeCase is a call and the error that it must get; code 0 means none.
type codeCase struct {
	name string
	on   *pb.StartRequest // what runs meanwhile
	call call
	want connect.Code
	text string
}

func checkCodes(t *testing.T, cases []codeCase) {
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, nil, connect.WithProtoJSON())
			var pid uint32
			if test.on != nil {
				_, out := r.start(t, soon(t), test.on)
				pid = out.pid
			}
			err := test.call(soon(t), r, pid)
			if test.want == 0 {
				if err != nil {
					t.Errorf("got %v, want success", err)
				}
				return
			}
			if got := connect.CodeOf(err); err == nil || got != test.want {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			mustContain(t, "text", err.Error(), test.text)
		})
	}
}

func TestStartErrorCodes(t *testing.T) {
	config := func(change func(*pb.ProcessConfig)) *pb.StartRequest {
		m := command("true")
		change(m.Process)
		return m
	}
	checkCodes(t, []codeCase{
		{"start nothing", nil, starting(&pb.StartRequest{}, ""), connect.CodeInvalidArgument, "no program given"},
		{"start as nobody known", nil, starting(command("true"), "root123"), connect.CodeUnauthenticated, "invalid username: 'root123'"},
		{"start in no directory", nil, starting(config(func(c *pb.ProcessConfig) { c.Cwd = ptr("/no/such") }), ""),
			connect.CodeInvalidArgument, "cwd '/no/such' does not exist"},
		{"start in a file", nil, starting(config(func(c *pb.ProcessConfig) { c.Cwd = ptr("/etc/passwd") }), ""),
			connect.CodeInvalidArgument, "cwd '/etc/passwd' is not a directory"},
		{"start in a closed directory", nil, starting(config(func(c *pb.ProcessConfig) { c.Cwd = ptr("/root") }), ""),
			connect.CodeInvalidArgument, "start 'true' in '/root'"},
		{"start in another's home", nil, starting(config(func(c *pb.ProcessConfig) { c.Cwd = ptr("~root") }), ""),
			connect.CodeInvalidArgument, "path '~root'"},
		{"start with a zero byte", nil, starting(config(func(c *pb.ProcessConfig) { c.Args = []string{"a\x00b"} }), ""),
			connect.CodeInvalidArgument, "argument holds a zero byte"},
		{"start with a bad variable", nil, starting(config(func(c *pb.ProcessConfig) { c.Envs = map[string]string{"A=B": "c"} }), ""),
			connect.CodeInvalidArgument, `environment variable "A=B" cannot be set`},
	})
}

func TestErrorCodes(t *testing.T) {
	stdin := &pb.ProcessInput{Input: &pb.ProcessInput_Stdin{Stdin: []byte("x")}}
	tty := &pb.ProcessInput{Input: &pb.ProcessInput_Pty{Pty: []byte("x")}}
	size := &pb.PTY{Size: &pb.PTY_Size{Cols: 1, Rows: 1}}
	plain := command("sleep", "1000")
	plain.Stdin = ptr(false)
	terminal := command("sleep", "1000")
	terminal.Pty = size
	checkCodes(t, []codeCase{
		{"connect to nothing", nil, connecting(nil), connect.CodeInvalidArgument, "process selector is missing"},
		{"connect to an unknown pid", nil, connecting(byPID(999999)), connect.CodeNotFound, "no process with that pid"},
		{"connect to a pid that is not ours", nil, connecting(byPID(1)), connect.CodeNotFound, "no process with that pid"},
		{"connect to an unknown tag", nil, connecting(byTag("x")), connect.CodeNotFound, "no process with tag 'x'"},
		{"signal an unknown pid", nil, signalling(byPID(999999), pb.Signal_SIGNAL_SIGKILL), connect.CodeNotFound, "no process with that pid"},
		{"send another signal", plain, signalling(nil, pb.Signal(19)), connect.CodeUnimplemented, "only signals 1 to 15 can be sent"},
		{"send no signal", plain, signalling(nil, 0), connect.CodeUnimplemented, "only signals 1 to 15 can be sent"},
		{"resize what has no terminal", plain, updating(size), connect.CodeInternal, "process has no terminal"},
		{"resize to nothing", terminal, updating(nil), 0, ""},
		{"write to a closed input", plain, feeding(stdin), connect.CodeInternal, "write input: input is closed"},
		{"write terminal input to a pipe", plain, feeding(tty), connect.CodeInternal, "write input: process has no terminal: send stdin input"},
		{"write pipe input to a terminal", terminal, feeding(stdin), connect.CodeInternal, "write input: process has a terminal: send pty input"},
		{"write nothing", plain, feeding(nil), connect.CodeInvalidArgument, "input is empty"},
		{"close a terminal's input", terminal, func(ctx context.Context, r *rig, pid uint32) error {
			_, err := r.CloseStdin(ctx, closeStdin(pid))
			return err
		}, connect.CodeUnknown, "a terminal has no end of input: send ctrl-d (0x04)"},
		{"stream data before start", nil, streaming(&pb.StreamInputRequest{
			Event: &pb.StreamInputRequest_Data{Data: &pb.StreamInputRequest_DataEvent{Input: stdin}}}),
			connect.CodeInvalidArgument, "stream begins with data instead of start"},
		{"stream nothing", nil, streaming(), 0, ""},
		{"list as nobody known", nil, func(ctx context.Context, r *rig, _ uint32) error {
			_, err := r.List(ctx, as("root123", &pb.ListRequest{}))
			return err
		}, connect.CodeUnauthenticated, "invalid username: 'root123'"},
	})
}

func TestList(t *testing.T) {
	r := newRig(t, nil)
	m := command("sleep", "1000")
	m.Tag = ptr("mine")
	m.Process.Envs = map[string]string{"A": "b"}
	_, first := r.start(t, soon(t), m)
	_, second := r.start(t, soon(t), command("sleep", "999"))
	r.run(t, command("true")) // has ended: not listed
	res, err := r.List(t.Context(), connect.NewRequest(&pb.ListRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	got := res.Msg.GetProcesses()
	if len(got) != 2 || got[0].GetPid() != first.pid || got[1].GetPid() != second.pid {
		t.Fatalf("got %v, want %d and %d", got, first.pid, second.pid)
	}
	if got[0].GetTag() != "mine" || got[0].GetConfig().GetEnvs()["A"] != "b" || got[1].Tag != nil {
		t.Errorf("got %v", got)
	}
}
