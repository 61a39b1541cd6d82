package show

import (
	"fmt"
	"io"
	"slices"
	"time"

	"bulkhead/client"
)

const (
	// maxTree is how wide branches and names are drawn together: all that 80
	// columns leave. At most maxBranch of it is branches.
	maxTree, maxBranch = 19, 10
)

// node is a snapshot and where to draw it.
type node struct {
	client.Snapshot
	// branch stands left of it, indent left of what follows it.
	branch, indent string
}

// Timeline draws the tree of snapshots as lines of a tabwriter. The newest
// child goes straight on below its parent; older ones, which a rollback left
// behind, stand to the side, with all that follows them.
//
//	o a
//	|-o b      taken after a, and left by a rollback to a
//	* c        taken after a as well; the machine goes on from here
//	~-o d      its parent has been removed
func Timeline(w io.Writer, t client.Timeline) {
	if len(t.Snapshots) == 0 {
		return
	}
	fmt.Fprintln(w, "SNAPSHOT\tID\tTAKEN\tAGE\tCAUSE\tOWN")
	children := byParent(t.Snapshots)
	// A stack of our own: a timeline may be thousands deep.
	var stack []node
	for _, s := range slices.Backward(children[""]) {
		if s.Parent == "" {
			stack = append(stack, node{s, "", ""})
		} else {
			stack = append(stack, node{s, "~-", "  "})
		}
	}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		mark := "o"
		if n.ID == t.Head {
			mark = "*"
		}
		branch := deepest(n.branch)
		fmt.Fprintf(w, "%s%s %s\t%s\t%s\t%s\t%s\t%s\n", branch, mark, Clip(n.Name, maxTree-len(branch)), Short(n.ID),
			n.CreatedAt.Local().Format("01-02 15:04"), Age(time.Since(n.CreatedAt)), Clip(n.Cause, 15), Bytes(n.OwnBytes))
		kids := children[n.ID]
		if len(kids) == 0 {
			continue
		}
		last := len(kids) - 1
		stack = append(stack, node{kids[last], n.indent, n.indent})
		for _, kid := range slices.Backward(kids[:last]) {
			stack = append(stack, node{kid, n.indent + "|-", n.indent + "| "})
		}
	}
}

// byParent sorts snapshots by their parent, "" for those that have none (any
// more), oldest first.
func byParent(all []client.Snapshot) map[string][]client.Snapshot {
	known := map[string]bool{}
	for _, s := range all {
		known[s.ID] = true
	}
	children := map[string][]client.Snapshot{}
	for _, s := range all {
		parent := s.Parent
		if !known[parent] {
			parent = ""
		}
		children[parent] = append(children[parent], s)
	}
	return children
}

// deepest is the end of a branch that is too long to draw.
func deepest(branch string) string {
	if len(branch) <= maxBranch {
		return branch
	}
	return ".." + branch[len(branch)-maxBranch+2:]
}
