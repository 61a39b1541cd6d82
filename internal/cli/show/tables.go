package show

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"bulkhead/client"
)

// Sandboxes shows a list as lines of a tabwriter.
func Sandboxes(w io.Writer, all []client.Sandbox) {
	if len(all) == 0 {
		return
	}
	// Teams take the place of heads on a host that has several: inspect has both.
	teams := slices.ContainsFunc(all, func(s client.Sandbox) bool { return s.Team != "" && s.Team != "default" })
	last := "HEAD"
	if teams {
		last = "TEAM"
	}
	fmt.Fprintln(w, "NAME\tID\tSTATE\tMEMORY\tTEMPLATE\tAGE\t"+last)
	for _, s := range all {
		state := string(s.State)
		if s.Unhealthy != "" && s.State == client.StateRunning {
			state = "unhealthy"
		}
		end := Short(s.Head)
		if teams {
			end = Clip(s.Team, 10)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", Clip(s.Name, 20), Short(s.ID), state, spent(s),
			Clip(s.TemplateID, 14), Age(time.Since(s.CreatedAt)), end)
	}
}

// spent is what the host spends on a sandbox, of what that may have.
func spent(s client.Sandbox) string {
	if s.MemoryUsedMB == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%dM", s.MemoryUsedMB, s.MemoryMB)
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
	if s.Unhealthy != "" {
		row("unhealthy", "%s", s.Unhealthy)
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
	if s.Schedule != nil {
		for _, line := range Schedule(s.Schedule) {
			row("by itself", "%s", line)
		}
	}
	if s.VMM != nil {
		row("VMM", "%s %s, process %d", s.VMM.Driver, s.VMM.Version, s.VMM.PID)
		if s.VMM.Cage != nil {
			cage(row, s.VMM.Cage)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s.Metadata)) {
		row("label "+OneLine(k), "%s", s.Metadata[k])
	}
	if s.ConsoleTail != "" {
		fmt.Fprintf(w, "\nend of the console:\n")
		_, _ = io.WriteString(Plain(w), s.ConsoleTail+"\n") // w tells at its flush
	}
}

// Cage writes what the kernel reports of a VMM process.
func Cage(w io.Writer, c *client.Cage) {
	cage(func(k, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", k, OneLine(fmt.Sprintf(format, args...)))
	}, c)
}

func cage(row func(k, format string, args ...any), c *client.Cage) {
	row("cage user", "%d, dumpable %t", c.UID, c.Dumpable)
	row("cage namespaces", "own %s", strings.Join(c.OwnNamespaces, " "))
	if len(c.SharedNamespaces) > 0 {
		row("", "the host's %s", strings.Join(c.SharedNamespaces, " "))
	}
	capabilities := "none"
	if len(c.Capabilities) > 0 {
		capabilities = strings.Join(c.Capabilities, ", ")
	}
	row("cage capabilities", "%s; no new privileges %t", capabilities, c.NoNewPrivs)
	row("cage system calls", "seccomp mode %d, %d filters", c.SeccompMode, c.SeccompFilters)
	row("cage limits", "%.0f MiB memory, %.1f CPUs, %.0f processes",
		c.Limits["memory_bytes"]/(1<<20), c.Limits["cpus"], c.Limits["pids"])
	row("cage usage", "%d MiB memory, %d threads", c.MemoryBytes>>20, c.PIDs)
	for _, path := range slices.Sorted(maps.Keys(c.Mounts)) {
		row("cage sees", "%s %s", path, c.Mounts[path])
	}
	held := map[string]int{}
	for _, what := range c.Descriptors {
		held[what]++
	}
	for _, what := range slices.Sorted(maps.Keys(held)) {
		row("cage holds", "%d x %s", held[what], what)
	}
	for _, d := range c.Differences {
		row("CAGE BROKEN", "%s is %s, must be %s", d.What, d.Got, d.Want)
	}
}

// FileChange returns the line of a file that differs.
func FileChange(c client.FileChange) string {
	path := OneLine(c.Path)
	if c.Folder {
		path += "/"
	}
	switch c.Kind {
	case "added":
		return "+ " + path
	case "removed":
		return "- " + path
	}
	if c.SizeBefore == c.SizeAfter {
		return "~ " + path
	}
	return fmt.Sprintf("~ %s  %s, was %s", path, Bytes(c.SizeAfter), Bytes(c.SizeBefore))
}

// Event returns the line of an event.
func Event(e client.Event) string {
	text := fmt.Sprintf("%s %s %s", e.Time.Local().Format(time.DateTime), e.Type, Short(e.SandboxID))
	for _, k := range slices.Sorted(maps.Keys(e.Fields)) {
		text += " " + k + "=" + e.Fields[k]
	}
	return OneLine(text)
}
