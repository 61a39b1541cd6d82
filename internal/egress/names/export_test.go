package names

import "github.com/miekg/dns"

// Fill answers one question.
func Fill(s *Server, m *dns.Msg, q dns.Question) { s.fill(m, q) }
