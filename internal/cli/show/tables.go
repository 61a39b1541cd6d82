package show

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"bulkhead/client"
)

// Sandboxes shows a list as lines of a tabwriter.
func Sandboxes(w io.Writer, all []client.Sandbox) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w, "NAME\tID\tSTATE\tTEMPLATE\tAGE\tHEAD")
	for _, s := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", Clip(s.Name, 20), Short(s.ID), s.State,
			Clip(s.TemplateID, 14), Age(time.Since(s.CreatedAt)), Short(s.Head))
	}
}

// Templates shows a list as lines of a tabwriter.
func Templates(w io.Writer, all []client.Template) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w, "NAME\tCPUS\tMEMORY\tDISK\tKERNEL\tOWN\tUSED\tAGE")
	for _, t := range all {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%d\t%s\n", Clip(t.Name, 14), t.CPUs,
			Bytes(int64(t.MemoryMB)<<20), Bytes(int64(t.DiskMB)<<20), Short(t.Kernel),
			Bytes(t.OwnBytes), t.Sandboxes, Age(time.Since(t.CreatedAt)))
	}
}

// Sandbox shows all about one as lines of a tabwriter.
func Sandbox(w io.Writer, s client.Sandbox) {
	row := func(k, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", k, OneLine(fmt.Sprintf(format, args...)))
	}
	row("name", "%s", s.Name)
	row("id", "%s", s.ID)
	row("state", "%s", s.State)
	if s.Reason != "" {
		row("reason", "%s", s.Reason)
	}
	if s.Hint != "" {
		row("way back", "%s", s.Hint)
	}
	row("template", "%s", s.TemplateID)
	row("machine", "%d CPU, %d MiB memory, %d MiB disk, %s", s.CPUs, s.MemoryMB, s.DiskMB, s.Accel)
	row("created", "%s (%s ago)", s.CreatedAt.Local().Format(time.DateTime), Age(time.Since(s.CreatedAt)))
	if s.State == client.StateRunning {
		row("running since", "%s", s.StartedAt.Local().Format(time.DateTime))
	}
	if s.Head != "" {
		row("last snapshot", "%s", s.Head)
	}
	if s.VMM != nil {
		row("VMM", "%s %s, process %d", s.VMM.Driver, s.VMM.Version, s.VMM.PID)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Metadata)) {
		row("label "+OneLine(k), "%s", s.Metadata[k])
	}
	if s.ConsoleTail != "" {
		fmt.Fprintf(w, "\nend of the console:\n")
		_, _ = io.WriteString(Plain(w), s.ConsoleTail+"\n") // w tells at its flush
	}
}

// Event returns the line of an event.
func Event(e client.Event) string {
	text := fmt.Sprintf("%s %s %s", e.Time.Local().Format(time.DateTime), e.Type, Short(e.SandboxID))
	for _, k := range slices.Sorted(maps.Keys(e.Fields)) {
		text += " " + k + "=" + e.Fields[k]
	}
	return OneLine(text)
}
