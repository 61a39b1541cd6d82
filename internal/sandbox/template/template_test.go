package template_test

import (
	"context"
	"testing"

	"bulkhead/internal/fault"
	"bulkhead/internal/sandbox/template"
)

// shelf is a Store that has some templates.
type shelf struct {
	template.Store
	all []template.Template
}

func (s shelf) Templates(context.Context) ([]template.Template, error) { return s.all, nil }

// TestTeamHasSoManyTemplates: a team cannot fill the pool with what it publishes,
// and others do not notice.
func TestTeamHasSoManyTemplates(t *testing.T) {
	have := shelf{all: []template.Template{{Name: "base"}, {Name: "a/one", Team: "a"}, {Name: "a/two", Team: "a"}, {Name: "b/one", Team: "b"}}}
	for name, tt := range map[string]struct {
		most       int
		team, name string
		refused    bool
	}{
		"one too many":          {2, "a", "a/three", true},
		"in place of another":   {2, "a", "a/two", false},
		"another team's":        {2, "b", "b/two", false},
		"one of the whole host": {1, "", "dev", false},
		"without a limit":       {0, "a", "a/three", false},
	} {
		t.Run(name, func(t *testing.T) {
			b := template.New(template.Builder{Store: have, Most: tt.most})
			err := b.Room(t.Context(), tt.team, tt.name)
			if fault.Is(err, fault.Limited) != tt.refused || (err == nil) == tt.refused {
				t.Errorf("error = %v", err)
			}
		})
	}
}
