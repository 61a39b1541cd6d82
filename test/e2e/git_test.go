package e2e_test

import (
	"net/http"
	"net/http/cgi"
	"os/exec"
	"strings"
	"testing"

	"bulkhead/test/harness"
)

// repository serves a repository to whoever has the token, as a forge does. It
// is at /repo.git.
func repository(t *testing.T) http.Handler {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.Command("sh", "-ec", `cd "$1"
git init -q -b main work; cd work
echo "written on the host" > README
git add README
git -c user.name=host -c user.email=host@example.org commit -qm first
cd ..; git clone -q --bare work repo.git
git -C repo.git config http.receivepack true`, "sh", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: git, Args: []string{"http-backend"},
		Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=agent"},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != tokenValue {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	})
}

// testGit has git clone and push with a token that is not in the guest.
func testGit(t *testing.T, s *services, b *harness.Box) {
	got := b.Sh(`cd /root && git clone -q "https://agent:$CODE_TOKEN@code.example/repo.git" repo && cd repo && cat README
echo more >> README
git -c user.name=agent -c user.email=agent@example.org commit -qam second
git push -q && git ls-remote -q origin main | cut -c1-40 && git rev-parse HEAD`)
	lines := strings.Split(got, "\n")
	if len(lines) != 3 || lines[0] != "written on the host" || lines[1] != lines[2] {
		t.Errorf("git says %s", got)
	}
	if r := b.Exec("git", "-C", "/root/repo", "ls-remote", "https://agent:guess@code.example/repo.git"); r.Code == 0 {
		t.Error("without the token it works too")
	}
	s.last()
}
