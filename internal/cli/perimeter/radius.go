package perimeter

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"bulkhead/client"
	"bulkhead/internal/cli/app"
	"bulkhead/internal/cli/show"

	"github.com/spf13/cobra"
)

// NewRadiusCommand returns bulkhead blast-radius.
func NewRadiusCommand(a *app.App) *cobra.Command {
	return &cobra.Command{
		Use: "blast-radius SANDBOX", Short: "Say everything that the agent in a sandbox can reach",
		Long: "Say everything that the agent in a sandbox can reach, and what whoever took over its\n" +
			"VMM could: from the rules in force and from the kernel, not from what was configured.",
		Example: "  bulkhead blast-radius otter",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.CompleteSandboxes,
		RunE: a.Ask(func(ctx context.Context, args []string) error {
			r, err := a.API.BlastRadius(ctx, args[0])
			if err != nil {
				return err
			}
			return a.Answer(r, func(w io.Writer) { radius(w, r) })
		}),
	}
}

func radius(w io.Writer, r client.BlastRadius) {
	section := func(title string, lines []string, none string) {
		fmt.Fprintf(w, "%s\n", title)
		if len(lines) == 0 {
			lines = []string{none}
		}
		for _, l := range lines {
			fmt.Fprintf(w, "  %s\n", show.OneLine(l))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%s is %s. Inside, its agent is root; this is all that it can reach.\n\n", r.Name, r.State)
	section("NETWORK, the first rule that fits decides", r.Network, "nothing")
	var used []string
	for _, u := range r.Used {
		used = append(used, fmt.Sprintf("%s  %d connections, %s up, %s down", u.Destination, u.Connections,
			show.Bytes(u.UpBytes), show.Bytes(u.DownBytes)))
	}
	section("USED OF IT", used, "nothing yet")
	section("LIMITS", budgets(r.Budgets), fmt.Sprintf("none but %d connections at once", r.MaxConnections))
	section("SECRETS", r.Secrets, "none")
	section("ITS NETWORK, as the kernel has it", link(r.Link), "none: it does not run")
	section("NEIGHBOURS", r.Neighbours, "none: its network holds nothing else")
	section("DEVICES", r.Devices, "none: it does not run")
	var files []string
	for _, path := range slices.Sorted(maps.Keys(r.Files)) {
		files = append(files, path+"  "+r.Files[path])
	}
	section("FILES OF THE HOST, for whoever takes over the VMM", files, "none: it does not run")
	if h := r.Host; h != nil {
		section("AND THERE IT IS", []string{
			fmt.Sprintf("user %d, without capabilities, %d filters of system calls", h.UID, h.SeccompFilters),
			fmt.Sprintf("at most %.0f MiB of memory, %.1f CPUs, %.0f processes",
				h.Limits["memory_bytes"]/(1<<20), h.Limits["cpus"], h.Limits["pids"]),
		}, "")
	}
	section("HOLES", r.Holes, "none found")
}

// link says what a network holds in a few lines; the rules one by one are in
// the JSON.
func link(l map[string][]string) []string {
	if len(l) == 0 {
		return nil
	}
	return []string{
		"devices " + strings.Join(l["devices"], ", "),
		"routes  " + strings.Join(l["routes"], ", "),
		"sockets " + strings.Join(l["sockets"], ", "),
		fmt.Sprintf("rules   %d, read back; where they are not as they must be is under HOLES", len(l["rules"])),
	}
}
