package sqlite

// Migration is one step from an empty file to the current tables.
func Migration(i int) string { return migrations()[i] }
