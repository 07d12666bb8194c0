"""What options and stored records may hold, and how they are typed."""
