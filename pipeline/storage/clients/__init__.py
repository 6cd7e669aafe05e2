"""Connections to stores and web servers, and which hosts they may reach."""
