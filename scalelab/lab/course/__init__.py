"""The course: months, experiments, benches and the roadmap. Import the modules by name."""
