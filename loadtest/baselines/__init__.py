"""Other ways to run the same networks and imaging functions, to compare the service with."""
