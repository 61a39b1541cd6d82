package mcp

import (
	"context"
	"time"

	"bulkhead/client"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// none is a tool without arguments.
type none struct{}

// which names a sandbox.
type which struct {
	Sandbox string `json:"sandbox,omitempty" jsonschema:"name or id of the sandbox; may be left out if there is only one"`
}

// machine is a sandbox as a model needs to know it.
type machine struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	State     string `json:"state" jsonschema:"running, paused (wakes by itself when it is used), stopped, crashed or on the way"`
	Template  string `json:"template"`
	CPUs      int    `json:"cpus"`
	MemoryMB  int    `json:"memory_mb"`
	CreatedAt string `json:"created_at"`
	Trouble   string `json:"trouble,omitempty" jsonschema:"why it does not work as it should"`
}

func newMachine(s client.Sandbox) machine {
	m := machine{
		ID: s.ID, Name: s.Name, State: string(s.State), Template: s.TemplateID, CPUs: s.CPUs, MemoryMB: s.MemoryMB,
		CreatedAt: s.CreatedAt.UTC().Format(time.RFC3339), Trouble: s.Reason,
	}
	if m.Trouble == "" {
		m.Trouble = s.Unhealthy
	}
	return m
}

// machines are several.
type machines struct {
	Sandboxes []machine `json:"sandboxes"`
}

func newMachines(all []client.Sandbox) machines {
	m := machines{Sandboxes: []machine{}}
	for _, s := range all {
		m.Sandboxes = append(m.Sandboxes, newMachine(s))
	}
	return m
}

// creation is what create_sandbox is told.
type creation struct {
	Template string            `json:"template,omitempty" jsonschema:"what it starts from (base)"`
	Name     string            `json:"name,omitempty" jsonschema:"small letters, digits and hyphens; made up if left out"`
	Env      map[string]string `json:"env,omitempty" jsonschema:"environment variables of all that runs in it"`
}

// forking is what fork_sandbox is told.
type forking struct {
	which
	Snapshot string `json:"snapshot,omitempty" jsonschema:"id or name of the moment to go on from; left out, it is now"`
	Name     string `json:"name,omitempty" jsonschema:"name of the new sandbox, or what numbers are added to"`
	Count    int    `json:"count,omitempty" jsonschema:"how many, 1 to 10 (1)"`
}

// maxForks bounds what one call makes.
const maxForks = 10

// done says that something was done to a sandbox.
type done struct {
	Sandbox string `json:"sandbox"`
	Done    string `json:"done"`
}

func (t tools) addMachines(s *mcp.Server) {
	add(t, s, &mcp.Tool{
		Name: "list_sandboxes", Annotations: readOnly(), Description: "List the sandboxes that you can use, oldest first.",
	}, func(ctx context.Context, _ *mcp.CallToolRequest, _ none) (machines, error) {
		if t.Only != "" {
			one, err := t.API.Sandbox(ctx, t.Only)
			return newMachines([]client.Sandbox{one}), err
		}
		all, err := t.API.Sandboxes(ctx)
		return newMachines(all), err
	})
	if t.Only != "" {
		return
	}
	add(t, s, &mcp.Tool{
		Name: "create_sandbox", Annotations: changes(false),
		Description: "Make a new sandbox: a whole Linux machine with root, in about a second. It stays until it is removed.",
	}, func(ctx context.Context, _ *mcp.CallToolRequest, in creation) (machine, error) {
		if in.Template == "" {
			in.Template = "base"
		}
		box, err := t.API.Create(ctx, client.CreateRequest{TemplateID: in.Template, Name: in.Name, EnvVars: in.Env})
		return newMachine(box), err
	})
	add(t, s, &mcp.Tool{
		Name: "fork_sandbox", Annotations: changes(false),
		Description: "Make new sandboxes that go on from one moment of another, with its files, memory and running programs.",
	}, func(ctx context.Context, _ *mcp.CallToolRequest, in forking) (machines, error) {
		ref, err := t.pick(ctx, in.Sandbox)
		if err != nil {
			return machines{}, err
		}
		req := client.ForkRequest{Snapshot: in.Snapshot, Name: in.Name, Count: min(max(1, in.Count), maxForks)}
		all, err := t.API.Fork(ctx, ref, req)
		return newMachines(all), err
	})
	add(t, s, &mcp.Tool{
		Name: "remove_sandbox", Annotations: changes(true),
		Description: "End a sandbox and remove all that it has, its snapshots included. This cannot be undone.",
	}, func(ctx context.Context, _ *mcp.CallToolRequest, in removal) (done, error) {
		return done{in.Sandbox, "removed"}, t.API.Remove(ctx, in.Sandbox)
	})
}

// removal must name what it removes.
type removal struct {
	Sandbox string `json:"sandbox" jsonschema:"name or id of the sandbox"`
}
