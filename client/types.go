// Package client speaks to the host daemon over its HTTP API.
//
// The command line uses nothing else, so whatever it can do, a program can do.
// client knows the wire, not the daemon: it imports nothing of it. A Client is
// safe for concurrent use.
package client

import "time"

// State is what a sandbox is doing.
type State string

// The states that a client can see.
const (
	StateCreating State = "creating"
	// StateStarting means that the guest boots.
	StateStarting State = "starting"
	StateRunning  State = "running"
	// StateHeld means that the machine stands still because the pool is full;
	// it goes on by itself once there is room.
	StateHeld State = "held"
	// StateSuspended means that the machine stands still in memory because nothing
	// happens in it. It goes on in milliseconds when it is needed.
	StateSuspended State = "suspended"
	// StatePaused means that the machine is a snapshot and nothing else. It comes
	// back where it was when it is needed.
	StatePaused State = "paused"
	// StateRollingBack lasts from the end of the old VMM to the first answer
	// of the restored guest.
	StateRollingBack State = "rolling_back"
	// StateStopped means that the guest powered itself off.
	StateStopped State = "stopped"
	// StateCrashed means that the VMM ended without being asked to; Reason
	// says how.
	StateCrashed  State = "crashed"
	StateRemoving State = "removing"
)

// Sandbox is one agent's microVM.
type Sandbox struct {
	ID string `json:"sandboxID"`
	// Team is whose it is: "default" unless a key of another team made it.
	Team       string `json:"team,omitempty"`
	Name       string `json:"name"`
	TemplateID string `json:"templateID"`
	State      State  `json:"state"`
	// Reason says why the sandbox is in its state, in one line; empty while
	// it runs as it should.
	Reason string `json:"reason,omitempty"`
	// Unhealthy says why the machine cannot work although it may run; empty if
	// nothing is known to keep it from work.
	Unhealthy string `json:"unhealthy,omitempty"`
	// Hint is the way out of a bad state: a command.
	Hint      string    `json:"hint,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	StartedAt time.Time `json:"startedAt"`
	CPUs      int       `json:"cpuCount"`
	MemoryMB  int       `json:"memoryMB"`
	// MemoryUsedMB is the memory that the host spends on it now, that of its VMM
	// included, in MiB.
	MemoryUsedMB int               `json:"memoryUsedMB,omitempty"`
	DiskMB       int               `json:"diskSizeMB"`
	Metadata     map[string]string `json:"metadata,omitempty"`
	// Head is the snapshot that the machine was last equal to.
	Head string `json:"head,omitempty"`
	// Schedule is what is done for it while nobody looks; nil for nothing.
	Schedule *Schedule `json:"schedule,omitempty"`
	// Accel is "kvm" or "tcg"; with tcg the guest is not behind a hardware
	// boundary.
	Accel string `json:"accel"`
	// VMM describes the running VMM process; nil while there is none.
	VMM *VMM `json:"vmm,omitempty"`
	// ConsoleTail holds the last lines of the console of a crashed or stopped
	// sandbox, for inspect only.
	ConsoleTail string `json:"consoleTail,omitempty"`

	Access
	// EndAt is when its time is over: of a paused one when it was paused, and
	// the year 9999 for one that has no end.
	EndAt time.Time `json:"endAt"`
	// Lifecycle is what happens at its end and when it is used while paused.
	Lifecycle Lifecycle `json:"lifecycle"`
	// AllowInternetAccess and Network are as its creator asked for; nil if that
	// said nothing.
	AllowInternetAccess *bool    `json:"allowInternetAccess,omitempty"`
	Network             *Network `json:"network,omitempty"`
}

// Access is what SDKs need to reach the services in a sandbox.
type Access struct {
	// ClientID is the same for all; clients of the first days join it to the id.
	ClientID string `json:"clientID"`
	// EnvdVersion is the version of E2B's agent that ours can stand in for.
	EnvdVersion string `json:"envdVersion"`
	// Alias is the name of the template.
	Alias string `json:"alias,omitempty"`
	// AgentToken opens the agent to who is not on the host; TrafficToken opens
	// ports that are not for the public. "" where none is needed.
	AgentToken   string `json:"envdAccessToken,omitempty"`
	TrafficToken string `json:"trafficAccessToken,omitempty"`
	// Domain is what the host names of its ports end in; nil if there are none.
	Domain *string `json:"domain"`
}

// Lifecycle is what happens to a sandbox by itself.
type Lifecycle struct {
	// AutoResume means that what is asked of it while it is paused brings it back.
	AutoResume bool `json:"autoResume"`
	// OnTimeout is "kill" or "pause".
	OnTimeout string `json:"onTimeout"`
}

// NoEnd is the EndAt of a sandbox that has no end.
func NoEnd() time.Time { return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }

// VMM is a running VMM process as the host sees it.
type VMM struct {
	Driver  string `json:"driver"`
	Version string `json:"version"`
	PID     int    `json:"pid"`
	// Cage is what the kernel reports of the process, for inspect only.
	Cage *Cage `json:"cage,omitempty"`
}

// Cage is what a VMM process may be and do, as the kernel reports it.
type Cage struct {
	UID int `json:"uid"`
	// OwnNamespaces are its own, SharedNamespaces the host's.
	OwnNamespaces    []string `json:"ownNamespaces"`
	SharedNamespaces []string `json:"sharedNamespaces,omitempty"`
	// Capabilities lists the sets that are not empty, "bounding 0000000000200000".
	Capabilities   []string `json:"capabilities,omitempty"`
	NoNewPrivs     bool     `json:"noNewPrivs"`
	SeccompMode    int      `json:"seccompMode"`
	SeccompFilters int      `json:"seccompFilters"`
	Dumpable       bool     `json:"dumpable"`
	// Mounts maps each path that it sees to the options of its mount.
	Mounts map[string]string `json:"mounts"`
	// Descriptors maps each open one to what it is.
	Descriptors map[int]string `json:"descriptors"`
	// Limits maps "memory_bytes", "cpus", "cpu_weight", "pids", "file_bytes",
	// "open_files" and "core_bytes" to what the kernel enforces, 0 for none.
	Limits map[string]float64 `json:"limits"`
	// MemoryBytes and PIDs are what it takes now.
	MemoryBytes int64 `json:"memoryBytes"`
	PIDs        int   `json:"pids"`
	// Differences is what is not as it must be; empty as it should.
	Differences []CageDifference `json:"differences"`
}

// CageDifference is one way in which a cage is not as it must be.
type CageDifference struct {
	What string `json:"what"`
	Want string `json:"want"`
	Got  string `json:"got"`
}

// CreateRequest asks for a sandbox.
type CreateRequest struct {
	// TemplateID is the name of a template, or the id of a snapshot that
	// outlives its sandbox.
	TemplateID string            `json:"templateID"`
	Name       string            `json:"name,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	EnvVars    map[string]string `json:"envVars,omitempty"`
	// Timeout is how long it lives, in seconds; nil for as long as it is not
	// removed. Forever says so on the wire, where SDKs that say nothing mean five
	// minutes.
	Timeout *int `json:"timeout,omitempty"`
	Forever bool `json:"forever,omitempty"`
	// AutoPause pauses it at its end instead of removing it, with AutoPauseMemory
	// false keeping its disk alone.
	AutoPause       bool        `json:"autoPause,omitempty"`
	AutoPauseMemory *bool       `json:"autoPauseMemory,omitempty"`
	AutoResume      *AutoResume `json:"autoResume,omitempty"`
	// Secure is what older SDKs ask for. The agent is closed to who has no token
	// whatever it says.
	Secure bool `json:"secure,omitempty"`
	// AllowInternetAccess false denies every destination that Network does not
	// allow. Without either, the host's policy for new sandboxes counts.
	AllowInternetAccess *bool    `json:"allow_internet_access,omitempty"`
	Network             *Network `json:"network,omitempty"`
	// IdempotencyKey, 1 to 255 of a-z, 0-9 and -, goes in a header of that name: a
	// request that is sent again with the same one within an hour makes no other
	// sandbox. Empty for none.
	IdempotencyKey string `json:"-"`
}

// AutoResume says whether what is asked of a paused sandbox brings it back.
type AutoResume struct {
	Enabled bool `json:"enabled"`
}

// Network is what a sandbox may talk to and who may talk to it, in the words of
// E2B's SDKs. The egress policy says the former in more detail.
type Network struct {
	// AllowOut are addresses, ranges of them, names, and "*.name"; they win over
	// DenyOut, which are addresses and ranges.
	AllowOut []string `json:"allowOut,omitempty"`
	DenyOut  []string `json:"denyOut,omitempty"`
	// AllowPublicTraffic false opens ports only to who has the traffic token.
	AllowPublicTraffic *bool `json:"allowPublicTraffic,omitempty"`
	// MaskRequestHost is the Host header that services see; ${PORT} stands for
	// the port.
	MaskRequestHost string `json:"maskRequestHost,omitempty"`
}

// Schedule is what is done for a sandbox while nobody looks.
type Schedule struct {
	// EverySeconds is how often a snapshot is taken if something has happened in
	// the machine; 0 for never, at least 60.
	EverySeconds int `json:"everySeconds,omitempty"`
	// Keep says which of these stay; without any, as many as usual.
	Keep Keep `json:"keep"`
	// IdleSeconds is after how long without anything happening the machine is
	// paused; 0 for never, at least 60.
	IdleSeconds int `json:"idleSeconds,omitempty"`
	// SuspendSeconds is after how long without anything happening the machine is
	// stopped in memory, at least 15; less than 0 for never. 0 is what is usual: 30
	// if IdleSeconds is set, never if not.
	SuspendSeconds int `json:"suspendSeconds,omitempty"`
	// KeepAlive brings it back whenever the daemon starts, and keeps idleness
	// from pausing it.
	KeepAlive bool `json:"keepAlive,omitempty"`
	// Wake is the time of day at which it is resumed if it is paused, "06:00" in
	// the host's zone.
	Wake string `json:"wake,omitempty"`
	// ExpiresAt is when it has had its time; Expiry is what happens then, "pause"
	// (the default) or "remove".
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
	Expiry    string     `json:"expiry,omitempty"`
	// OnUnhealthy is what is done for a machine that cannot work: "nothing" (the
	// default), "reboot", or "rollback" to its newest snapshot from before.
	OnUnhealthy string `json:"onUnhealthy,omitempty"`
	// Before says what a snapshot is taken just before.
	Before *Before `json:"before,omitempty"`
}

// Before says what is risky enough for a snapshot just before it.
type Before struct {
	// Commands are patterns of what is started, like "rm -r*", or names of
	// groups of them: "@packages", "@destructive", "@root", "@any".
	Commands []string `json:"commands,omitempty"`
	// Contact is the first connection to a destination.
	Contact bool `json:"contact,omitempty"`
	// IntervalSeconds is how often at most; 0 for the default of 600.
	IntervalSeconds int `json:"intervalSeconds,omitempty"`
}

// Keep counts scheduled snapshots that stay: the last ones, and the last of so
// many hours and days.
type Keep struct {
	Last   int `json:"last"`
	Hourly int `json:"hourly"`
	Daily  int `json:"daily"`
}

// PauseRequest asks for a pause.
type PauseRequest struct {
	// Stay means that only Resume ends it, not what is asked of the sandbox.
	Stay bool `json:"stay,omitempty"`
	// UntilBoot means that the host goes down: the sandbox is resumed once it has
	// started again.
	UntilBoot bool `json:"untilBoot,omitempty"`
	// Memory false keeps the disk alone: the machine boots when it comes back,
	// which only Resume does.
	Memory *bool `json:"memory,omitempty"`
}

// ResumeRequest asks for a paused sandbox to come back.
type ResumeRequest struct {
	// Timeout is how long it lives from then on, in seconds, if it has an end at
	// all; nil for as long as when it was made.
	Timeout *int `json:"timeout,omitempty"`
	// Memory false boots it from its disk.
	Memory *bool `json:"memory,omitempty"`
}

// ForkRequest asks for sandboxes that go on from one moment of another.
type ForkRequest struct {
	// Snapshot is the moment, by id, a unique prefix of one, or name; "" is now.
	Snapshot string `json:"snapshot,omitempty"`
	// Count is how many, 1 to 100.
	Count int `json:"count"`
	// Name is that of the one, or what numbers are added to; "" makes names up.
	Name string `json:"name,omitempty"`
	// Timeout is how long each lives, in seconds; nil for as long as it is not
	// removed. Forever says so on the wire, where SDKs that say nothing mean 15.
	Timeout *int `json:"timeout,omitempty"`
	Forever bool `json:"forever,omitempty"`
	// All means that there is none of them unless there are all.
	All bool `json:"all,omitempty"`
}

// ForkResult is one sandbox that was asked for, or why it is not there.
type ForkResult struct {
	Sandbox *Sandbox `json:"sandbox,omitempty"`
	Error   *Error   `json:"error,omitempty"`
}

// Snapshot is one moment of a whole machine.
type Snapshot struct {
	ID   string `json:"snapshotID"`
	Name string `json:"name,omitempty"`
	// Names are those by which sandboxes can be created from it: none for a
	// snapshot of a timeline.
	Names     []string  `json:"names"`
	SandboxID string    `json:"sandboxID"`
	Parent    string    `json:"parent,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	// Cause is "manual", "schedule", "inside", "pause", "fork", "before-rollback",
	// "before-exec", "before-contact" or "template".
	Cause string `json:"cause"`
	// What is the command or destination that it was taken before.
	What string `json:"what,omitempty"`
	// StoppedMS is how long the guest stood still, in milliseconds.
	StoppedMS float64 `json:"stoppedMS"`
	// OwnBytes is what removing this snapshot alone would free, give or take what
	// has changed in the last twenty seconds.
	OwnBytes int64 `json:"ownBytes"`
}

// SnapshotRequest asks for a snapshot.
type SnapshotRequest struct {
	Name string `json:"name,omitempty"`
	// Timeline makes it one of the sandbox's timeline, to which it can be rolled
	// back and with which it goes. Without it the snapshot is what sandboxes can
	// be created from, and outlives its own.
	Timeline bool `json:"timeline,omitempty"`
	// Memory false is what SDKs ask for that want the disk alone, which is not
	// offered.
	Memory *bool `json:"memory,omitempty"`
}

// Timeline is the tree of a sandbox's snapshots.
type Timeline struct {
	SandboxID string `json:"sandboxID"`
	// Head is the snapshot from which the machine goes on now.
	Head string `json:"head,omitempty"`
	// Snapshots is ordered by time, oldest first.
	Snapshots []Snapshot `json:"snapshots"`
}

// FileChange is a file in which two moments of a machine differ, as its guest
// says. Only the kernel of a guest reads its disk: what it says may be a lie.
type FileChange struct {
	// Kind is "added", "removed" or "changed".
	Kind string `json:"kind"`
	// Path is the guest's choice: it may hold anything but a zero byte.
	Path   string `json:"path"`
	Folder bool   `json:"folder,omitempty"`
	// Mode is the file's type and permissions as in st_mode.
	Mode uint32 `json:"mode"`
	// SizeBefore and SizeAfter are bytes, 0 where it is not.
	SizeBefore int64 `json:"sizeBefore"`
	SizeAfter  int64 `json:"sizeAfter"`
}

// RollbackRequest asks for a rollback.
type RollbackRequest struct {
	// Snapshot is an id, a unique prefix of one, or a name.
	Snapshot string `json:"snapshot"`
	// Discard gives up what the machine is now instead of keeping a snapshot.
	Discard bool `json:"discard,omitempty"`
}

// RollbackResult says what a rollback did.
type RollbackResult struct {
	Sandbox Sandbox `json:"sandbox"`
	// Snapshot is where the machine is now.
	Snapshot Snapshot `json:"snapshot"`
	// DurationMS is the time from the end of the old VMM to the restored
	// guest confirming that it is right and running.
	DurationMS float64 `json:"durationMS"`
	// Kept is the snapshot of what the machine was, which may take a moment to
	// appear; "" if there is none, and Lost says why.
	Kept string `json:"kept,omitempty"`
	Lost string `json:"lost,omitempty"`
}

// Template is a prepared machine that sandboxes start from.
type Template struct {
	ID        string    `json:"templateID"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"createdAt"`
	CPUs      int       `json:"cpuCount"`
	MemoryMB  int       `json:"memoryMB"`
	DiskMB    int       `json:"diskSizeMB"`
	Kernel    string    `json:"kernel"`
	Accel     string    `json:"accel"`
	OwnBytes  int64     `json:"ownBytes"`
	// Sandboxes is how many sandboxes came from it and still exist.
	Sandboxes int `json:"sandboxes"`
	// Schedule is what sandboxes made from it begin with; nil if there is none.
	Schedule *Schedule `json:"schedule,omitempty"`
	// Origin is the sandbox that it is a snapshot of; "" for one that was built.
	Origin string `json:"origin,omitempty"`

	// What follows is what E2B's clients read of a template.
	BuildID     string    `json:"buildID"`
	BuildStatus string    `json:"buildStatus"`
	BuildCount  int       `json:"buildCount"`
	SpawnCount  int       `json:"spawnCount"`
	Public      bool      `json:"public"`
	Names       []string  `json:"names"`
	Aliases     []string  `json:"aliases"`
	EnvdVersion string    `json:"envdVersion"`
	UpdatedAt   time.Time `json:"updatedAt"`
	LastSpawned *string   `json:"lastSpawnedAt"`
	CreatedBy   *string   `json:"createdBy"`
}

// BuildRequest asks for a template. Nil numbers take the host's defaults.
type BuildRequest struct {
	Name     string `json:"name"`
	CPUs     *int   `json:"cpuCount,omitempty"`
	MemoryMB *int   `json:"memoryMB,omitempty"`
	DiskMB   *int   `json:"diskSizeMB,omitempty"`
	// Packages are Debian packages on top of those of base.
	Packages []string `json:"packages,omitempty"`
	// BuildTools adds compilers and headers.
	BuildTools bool `json:"buildTools,omitempty"`
	// FromImage is a container image to build on, "node:22", instead of Debian;
	// Packages and BuildTools are for Debian alone.
	FromImage string    `json:"fromImage,omitempty"`
	Registry  *Registry `json:"fromImageRegistry,omitempty"`
}

// Registry is who asks a registry for an image. Nothing of it is kept.
type Registry struct {
	// Type is "registry", with Username and Password, or "gcp", with
	// ServiceAccountJSON. Others are not supported.
	Type               string `json:"type"`
	Username           string `json:"username,omitempty"`
	Password           string `json:"password,omitempty"`
	ServiceAccountJSON string `json:"serviceAccountJson,omitempty"`
}

// BuildEvent is one line of the progress of a build. The last one has either
// Template or Error set.
type BuildEvent struct {
	// Step names what has begun: "install Debian packages".
	Step string `json:"step,omitempty"`
	// Number and Of count steps, from 1.
	Number int `json:"number,omitempty"`
	Of     int `json:"of,omitempty"`
	// Done marks the end of the step; Elapsed is how long it took.
	Done      bool    `json:"done,omitempty"`
	ElapsedMS float64 `json:"elapsedMS,omitempty"`
	// Log is one line of output of the running step.
	Log      string    `json:"log,omitempty"`
	Template *Template `json:"template,omitempty"`
	Error    *Error    `json:"error,omitempty"`
}

// Event is one line of the audit log.
type Event struct {
	Seq       uint64            `json:"seq"`
	Time      time.Time         `json:"time"`
	Type      string            `json:"type"`
	SandboxID string            `json:"sandboxID,omitempty"`
	Fields    map[string]string `json:"fields,omitempty"`
}

// Info describes the daemon.
type Info struct {
	Version string `json:"version"`
	Accel   string `json:"accel"`
	// Boundary is true if guests are behind a hardware boundary.
	Boundary bool   `json:"hardwareBoundary"`
	StateDir string `json:"stateDir"`
	PID      int    `json:"pid"`
	// PoolTotal and PoolFree are bytes.
	PoolTotal int64 `json:"poolTotal"`
	PoolFree  int64 `json:"poolFree"`
	// JailLacks lists the features that the host lacks and that cages go
	// without, because the operator said so.
	JailLacks []string `json:"jailLacks,omitempty"`
}

// Error is the body of every error answer, and a Go error.
type Error struct {
	// Code is the HTTP status.
	Code    int    `json:"code"`
	Message string `json:"message"`
	// Kind is one of the kinds of package fault.
	Kind string `json:"error_code,omitempty"`
	// Hint is the way out.
	Hint string `json:"hint,omitempty"`
	// RequestID finds the whole story in the daemon's log.
	RequestID string `json:"requestID,omitempty"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }
